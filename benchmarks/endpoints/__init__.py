"""Ways to get rewards: this project's wire, foreign ones, a model in this process."""
