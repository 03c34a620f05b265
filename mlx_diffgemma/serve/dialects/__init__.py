"""The APIs that clients speak: requests read into questions, events written as each wants them."""
