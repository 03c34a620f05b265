"""`finetune`: a model trained on examples of its own, with adapters or in all its weights."""
