"""One module for each peer, whose class `Peer` has a method for each kind of layer; `layers.forward` calls them."""
