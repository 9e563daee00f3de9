"""The field's baselines: counting methods and neural next-item models. Import from the defining module."""
