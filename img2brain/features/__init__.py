"""From images to reduced features: one pass through a network, then PCA."""
