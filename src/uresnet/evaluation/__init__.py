"""How good a result is: measures on label maps, images and transforms."""
