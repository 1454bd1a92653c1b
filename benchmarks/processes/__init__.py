"""What training in several processes costs: computed by `model`, measured by `measure`."""
