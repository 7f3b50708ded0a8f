"""The CDMAM phantom: simulation, read-out, contrast-detail curve, sampling."""
