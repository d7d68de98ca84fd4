"""What goes over the network: one strict parser for what comes in, one bounded way out."""
