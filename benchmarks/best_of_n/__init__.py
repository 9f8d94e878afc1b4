"""Best of N: what choosing by reward gains over voting and over chance, on the same samples."""
