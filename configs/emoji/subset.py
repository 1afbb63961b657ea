"""The emoji that the demo learns: few enough for minutes on two cores, enough to compose."""

from tfsnap.data.examples import Subset
from tfsnap.training.jobs.inputs import DataConfig

# Drawn in five skin tones and in yellow, in four styles: what compositions are held out from.
_TONED = ("thumbs up", "raised fist", "OK hand", "flexed biceps")

_PLAIN = (
    # Faces.
    "grinning face with smiling eyes",
    "smiling face with heart-eyes",
    "smiling face with sunglasses",
    "ghost",
    # One shape, many colours.
    "red heart",
    "orange heart",
    "yellow heart",
    "green heart",
    "blue heart",
    "purple heart",
    # Animals.
    "cat face",
    "pig face",
    "frog",
    "panda",
    "fox",
    "penguin",
    # Food.
    "red apple",
    "banana",
    "watermelon",
    "strawberry",
    "lemon",
    "carrot",
    # Things and weather.
    "soccer ball",
    "rocket",
    "automobile",
    "sunflower",
    "star",
    "snowman without snow",
)

DEMO = Subset(labels=_TONED + _PLAIN)


def demo_data() -> DataConfig:
    """The demo's pictures: 32 px, tones and styles as often as they come."""
    return DataConfig(resolution=32, subset=DEMO, resample=0.0)
