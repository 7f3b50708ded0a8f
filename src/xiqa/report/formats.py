"""The page of the formats of images; a test compares docs/reference/formats.md with the list of formats."""

from xiqa.datasets.formats import format_table

TEXT = """# Formats of images and masks

Which reader a file needs follows from its content, else from its name. This table is made from the list in
`src/xiqa/datasets/formats.py`, from which messages about files of unknown formats come too.

{table}
## Limits

A file whose header claims more than `largest_image_mb` (1,024 by default) of stored values, or whose compressed data
unpack to more, is a fault before memory is taken for it. Compressed data are unpacked step by step and to their end;
their length and checksum must be right. Formats without a checksum (plain NIfTI and MetaImage, HDF5 that is not packed)
cannot show that a stored value was damaged: keep checksums of such files, or gzip them.

## Orientation

Volumes, and slices of them, whose file says how they lie in the patient are turned into one orientation, whatever the
order of axes in the file: columns run to the patient's left and rows to the back, as transverse images are shown. Where
a slice lies otherwise, columns run to the left (or to the back) and rows to the feet. An axis counts as the direction
that it is nearest to. So the same image gives the same array as `.nii`, `.nii.gz`, `.hdr`, `.mha` or `.mhd`.
Of NIfTI the sform counts, else the qform; with neither, and in Analyze files, the image is taken as stored: the first
axis gives the columns, the second the rows. Slices (or frames) keep the order of the file.

A mask must lie where its image lies: no corner may be more than a tenth of a pixel beside it. A mask of a whole volume
gives the slice that lies where the image lies, also if its slices are numbered from the other end. If only one of the
two says how it lies and it had to be turned, both are refused, since nobody can know whether they fit.

Spacing is in mm. NIfTI names its unit in `xyzt_units` (m, mm or µm; none means mm), MetaImage in `DistanceUnits`.

## Masks

Which values are inside is decided the same way for all data sets and formats, by `mask_values`:

| `mask_values` | Inside |
|---|---|
| `auto` | labels: each but 0 (black); a shape with soft edges: beyond half of the full scale; all else is refused |
| `nonzero` | each value but 0 |
| `44 104` or `#ff0000` | pixels with one of these values or colours |
| `> 0.5` | values above this level |

Labels are at most 16 different values or colours, or whole numbers up to 31. Soft edges are those of a JPEG, of a mask
that was resized or blurred: one shape on black, up to the full scale. Refused are two or more values without any 0
(which of them is the ground?), negative values, a soft or lossy mask of several levels, and black and white that was a
JPEG once (several values near both ends). In `format: folder` a column `mask_values` says it for single masks.

## Files that tables, headers and links name

Whatever a table, a header (such as the data file of `.mhd`) or a search in the folder names must lie in the data set's
folder, after all links are followed. Where images are links into a cache (DVC, clusters), name the folders of the
targets:

```yaml
datasets:
  mine:
    format: folder
    path: /home/me/study/images
    follow_links: true
    link_roots: [/scratch/dvc-cache]
```

Links to anywhere else, links within HDF5 files, and their external or virtual data are refused.
"""


def page() -> str:
    """The page as Markdown."""
    return TEXT.format(table=format_table())
