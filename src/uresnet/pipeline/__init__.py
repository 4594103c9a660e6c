"""From files to results: register a pair, segment an image, save."""
