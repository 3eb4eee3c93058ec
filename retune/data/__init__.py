"""The table of radiographs, its readers, and the synthetic phantom."""
