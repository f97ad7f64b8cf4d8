"""Statistics of scores: intervals, ties, significance and the ceilings that noise sets. Arrays in, arrays out."""
