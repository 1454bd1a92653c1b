"""Commands of ``softhebb-fast`` that are longer than a function; each adds itself to the parser."""
