"""Networks: their architecture, training, and the deep ensemble."""
