"""The captions that the demo and the README draw."""

# Of the small set that the demo trains on, and of all emoji, training saw none of these: not the
# picture, nor these words together; their parts it saw apart.
UNSEEN = (
    "thumbs up, dark skin tone, noto style",
    "OK hand, light skin tone, fluent flat style",
    "flexed biceps, medium-dark skin tone, twemoji style",
    "raised fist, medium-light skin tone, noto style",
    "purple heart, twemoji style",
    "red apple, fluent 3d style",
    "banana, fluent 3d style",
    "watermelon, twemoji style",
)
SEEN = (
    "thumbs up, light skin tone, twemoji style",
    "OK hand, dark skin tone, fluent flat style",
    "green heart, noto style",
    "panda, fluent flat style",
    "fox, twemoji style",
    "soccer ball, noto style",
    "rocket, fluent flat style",
    "smiling face with sunglasses, fluent 3d style",
)
