"""Post-training: render pairs, train the tiny codec, then the network and its branches."""
