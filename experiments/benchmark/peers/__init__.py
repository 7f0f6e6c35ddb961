"""One module for each peer, with a function for each kind of layer; `networks.forward` puts them together."""
