"""Our hospital's radiographs: a table of images, and the pictures beside it."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retune import Dataset, FileImages, Reader, split_by_patient
from retune.errors import BadTable, MissingFiles


@dataclass(frozen=True)
class OurHospital(Reader):
    """What ``retune show`` prints. The folder holds ``labels.csv`` (``file,patient,Edema,Fracture``) and the pictures.

    Args:
        valid: Share of the patients that is put aside for validation.
    """

    name = "our-hospital"
    needs_root = True
    source = "where it comes from, or how it is cited"
    licence = "who may use it"
    labels = ("Edema", "Fracture")  # names that prompts know: retune show prompts language-model

    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:  # the table only; no picture is opened
        folder = self.require_root(root, ("labels.csv",))
        table = folder / "labels.csv"
        if not table.is_file():
            raise MissingFiles("labels.csv not found", where=str(folder), fix="put it there or check --root")
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, has = list(reader), reader.fieldnames or []
        if lacking := sorted({"file", "patient", *self.labels} - set(has)):
            raise BadTable(f"has no column {lacking[0]}", where=str(table), fix=f"it has {', '.join(has)}")
        codes = {"1": 1.0, "0": 0.0, "": np.nan}  # NaN: nobody looked for it
        for number, row in enumerate(rows, start=2):
            odd = next((label for label in self.labels if row.get(label) not in codes), None)
            if odd:
                raise BadTable(
                    f"{odd} is '{row.get(odd)}', not 1, 0 or blank", where=f"{table}, row {number}"
                )
        files, patients = (np.array([row[key] for row in rows]) for key in ("file", "patient"))
        targets = np.array([[codes[row[label]] for label in self.labels] for row in rows], dtype=np.float32)
        return Dataset(
            name=self.name,
            labels=self.labels,
            image_id=files,
            patient_id=patients,
            split=split_by_patient(patients, valid=self.valid, test=0.2),
            targets=targets.reshape(len(rows), len(self.labels)),
            images=FileImages(files, folder),  # PNG, JPEG or DICOM
            source=self.source,
        )
