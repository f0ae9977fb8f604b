"""Models of arms of a screen: what they answer, and the simple ones and autoencoders."""
