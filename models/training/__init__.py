"""How each model of the pack was made: resumable commands, checkpoints outside git."""
