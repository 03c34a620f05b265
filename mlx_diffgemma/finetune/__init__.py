"""Fine-tuning: data, the training objective, adapters, the loop, and the accuracy of a model."""
