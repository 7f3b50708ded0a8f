"""One module per kind of picture: tables and arrays in, matplotlib figures out."""
