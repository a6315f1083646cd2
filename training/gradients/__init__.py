"""How gradients flow through networks that have not learned yet: their size in each layer, by depth."""
