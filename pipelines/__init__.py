"""Recipes: YAML that names stages of curate, mixer and trainer in order. Stages resume; a recipe just calls them."""
