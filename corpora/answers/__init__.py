"""What an answer in free text says: the option that it chooses, its words, its last number."""
