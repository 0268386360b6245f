"""All that is settled before the first trial: images, splits, architectures, weights, space, first points."""
