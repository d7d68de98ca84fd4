"""Bot Manager: from the click on an ad to the delivered product."""

VERSION = "0.1.0"
