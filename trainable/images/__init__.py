"""From a folder, archive, manifest or DICOM series to checked, split and decoded slices."""
