"""The chapters of the export report, one file each: what a reader is shown of the evidence."""
