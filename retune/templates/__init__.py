"""Starting points that ``retune new`` writes."""
