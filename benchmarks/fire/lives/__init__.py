"""Random lives of modules, each compared with a fresh one."""
