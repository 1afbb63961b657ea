"""Users' pictures, made ready on disk once: decoded, cropped, resized, in shards.

A prepared set is a folder:

    set.json                what it is: resolution, splits, shapes, rows, checksums
    captions.jsonl          a line for everything that was looked at, in order: where it went with
                            which captions, or why it was skipped
    report.json             how many were used and how many were skipped, why, and the first names
    train/64x64/            `tfsnap.data.shards`: the table `image`, uint8 [64, 64, 3]
    validation/64x64/       the same; with buckets there are several shapes
"""
