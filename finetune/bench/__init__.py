"""Tokens a second and memory of ``downstream finetune`` beside the usual ways of fine-tuning, in one run."""
