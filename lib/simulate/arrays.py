"""What the descriptions of networks, measurements and screens have in common."""

from dataclasses import fields

import numpy as np


class Arrays:
    """A frozen dataclass of plain arrays, which can't be written to, and which `uns` can hold."""

    def _keep(self, name: str, values, kind=None) -> None:
        """Set a field to an array that can't be written to."""
        array = np.array(values, dtype=kind)
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def _check_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Raise ValueError in one line where a field's array hasn't its shape."""
        for name, shape in shapes.items():
            given = getattr(self, name).shape
            if given != shape:
                raise ValueError(f"{name}: shape {given}; must be {shape}")

    def as_arrays(self) -> dict:
        """What `uns` can hold, and a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
