"""PadChest's labels, and the findings that each is an example of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from retune.data import findings

NORMAL: Final = "normal"
EXCLUDE: Final = "exclude"
NOTHING: Final = frozenset(("", "unchanged", "suboptimal study", EXCLUDE))
"""Labels that say nothing of findings."""

DEVICES: Final = (
    *("NSG tube", "endotracheal tube", "tracheostomy tube", "chest drain tube", "gastrostomy tube"),
    *("nephrostomy tube", "ventriculoperitoneal drain tube", "double J stent", "catheter"),
    *("central venous catheter", "central venous catheter via jugular vein"),
    *("central venous catheter via subclavian vein", "central venous catheter via umbilical vein"),
    *("reservoir central venous catheter", "pacemaker", "dai", "single chamber device"),
    *("dual chamber device", "electrical device", "artificial heart valve"),
    *("artificial aortic heart valve", "artificial mitral heart valve"),
)
"""Tubes, lines, stents, valves and implanted electrical devices; not what surgery leaves behind."""

# A label stands in every finding that it is an example of, as in PadChest's own tree: consolidation is an
# infiltrate, and an infiltrate a lung opacity. Otherwise a present finding would count as absent.
_CONSOLIDATION = ("consolidation", "air bronchogram")
_INFILTRATES = (
    *("infiltrates", "alveolar pattern", "ground glass pattern", "miliary opacities", "interstitial pattern"),
    *("reticular interstitial pattern", "reticulonodular interstitial pattern", *_CONSOLIDATION),
)
_NODULES = ("nodule", "multiple nodules")
# Masses of the breast, the soft tissues, the pleura and the mediastinum are none of the lung.
_MASSES = ("mass", "pulmonary mass")
_TUMORS = ("lung metastasis", "lepidic adenocarcinoma")
_THICKENING = ("pleural thickening", "apical pleural thickening", "calcified pleural thickening")
SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "No Finding": (NORMAL,),
    "Enlarged Cardiomediastinum": ("mediastinal enlargement", "superior mediastinal enlargement"),
    "Cardiomegaly": ("cardiomegaly",),
    "Lung Opacity": ("increased density", *_INFILTRATES),
    "Lung Lesion": (*_NODULES, *_MASSES, *_TUMORS, "cavitation", "abscess"),
    "Edema": ("pulmonary edema",),
    "Consolidation": _CONSOLIDATION,
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
    "Atelectasis": (
        *("atelectasis", "atelectasis basal", "laminar atelectasis", "lobar atelectasis"),
        *("round atelectasis", "segmental atelectasis", "total atelectasis"),
    ),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Pleural Effusion": (
        *("pleural effusion", "loculated pleural effusion", "loculated fissural effusion"),
        *("hydropneumothorax", "empyema"),
    ),
    "Pleural Other": ("pleural plaques", "calcified pleural plaques", "pleural mass", *_THICKENING),
    "Fracture": (
        *("fracture", "rib fracture", "callus rib fracture", "clavicle fracture", "humeral fracture"),
        "vertebral fracture",
    ),
    "Support Devices": DEVICES,
    "Infiltration": _INFILTRATES,
    "Mass": _MASSES,
    "Nodule": _NODULES,
    "Emphysema": ("emphysema", "bullas"),
    "Fibrosis": ("pulmonary fibrosis",),
    "Pleural Thickening": _THICKENING,
    "Hernia": ("hiatal hernia",),
    # An elongated aorta is not a wide one.
    "Aortic Enlargement": ("aortic button enlargement", "aortic aneurysm"),
    "Calcification": ("calcified densities", "calcified granuloma"),
    "Enlarged Pulmonary Artery": ("pulmonary artery enlargement",),
    "Lung Cavity": ("cavitation",),
    "Mediastinal Shift": ("mediastinal shift",),
    "COPD": ("COPD signs",),
    "Lung Tumor": _TUMORS,
    # Sequelae are a scar, not the disease.
    "Tuberculosis": ("tuberculosis",),
}
"""PadChest's spellings of each finding; a label may be an example of several."""
UNUSED: Final = tuple(
    """Chilaiditi sign|abnormal foreign body|adenopathy|air fluid level|air trapping|aortic atheromatosis
aortic elongation|aortic endoprosthesis|asbestosis signs|ascendent aortic elongation|axial hyperostosis
azygoesophageal recess shift|azygos lobe|blastic bone lesion|bone cement|bone metastasis|breast mass
bronchiectasis|bronchovascular markings|calcified adenopathy|calcified fibroadenoma
calcified mediastinal adenopathy|central vascular redistribution|cervical rib|chronic changes
costochondral junction hypertrophy|costophrenic angle blunting|cyst|descendent aortic elongation|dextrocardia
diaphragmatic eventration|end on vessel|endoprosthesis|esophagic dilatation|external foreign body|fibrotic band
fissure thickening|flattened diaphragm|goiter|granuloma|gynecomastia|heart insufficiency|heart valve calcified
hemidiaphragm elevation|hilar congestion|hilar enlargement|humeral prosthesis|hyperinflated lung|hypoexpansion
hypoexpansion basal|kerley lines|kyphosis|lipomatosis|lung vascular paucity|lymphangitis carcinomatosa
lytic bone lesion|major fissure thickening|mammary prosthesis|mastectomy|mediastinal mass
mediastinic lipomatosis|metal|minor fissure thickening|nipple shadow|non axial articular degenerative changes
obesity|osteopenia|osteoporosis|osteosynthesis material|pectum carinatum|pectum excavatum|pericardial effusion
pneumomediastinum|pneumoperitoneo|post radiotherapy changes|prosthesis|pseudonodule
pulmonary artery hypertension|pulmonary hypertension|pulmonary venous hypertension|respiratory distress
right sided aortic arch|sclerotic bone lesion|scoliosis|soft tissue mass|sternoclavicular junction hypertrophy
sternotomy|subacromial space narrowing|subcutaneous emphysema|supra aortic elongation|surgery|surgery breast
surgery heart|surgery humeral|surgery lung|surgery neck|suture material|thoracic cage deformation
tracheal shift|tuberculosis sequelae|vascular hilar enlargement|vascular redistribution
vertebral anterior compression|vertebral compression|vertebral degenerative changes|volume loss""".replace(
        "\n", "|"
    ).split("|")
)
"""The published table's other labels, which no finding of the vocabulary stands for."""

FINDINGS: Final = tuple(name for name in findings.FINDINGS if name in SPELLINGS)
"""The findings that some of PadChest's labels are examples of."""
COLUMNS_OF: Final[Mapping[str, list[int]]] = {
    spelling.lower(): [k for k, name in enumerate(FINDINGS) if spelling in SPELLINGS[name]]
    for name in FINDINGS
    for spelling in SPELLINGS[name]
}
"""Where a label, in small letters, stands among these."""
BESIDE_NORMAL: Final = NOTHING | {NORMAL, *map(str.lower, DEVICES)}
"""Labels that leave a radiograph normal."""


def narrowest(spelling: str) -> str:
    """Of the findings that a label is an example of the one with the fewest labels."""
    return min((name for name in SPELLINGS if spelling in SPELLINGS[name]), key=lambda n: len(SPELLINGS[n]))


MAPPING: Final[Mapping[str, str]] = {
    **{spelling: narrowest(spelling) for names in SPELLINGS.values() for spelling in names},
    **dict.fromkeys((*sorted(NOTHING - {""}), *UNUSED), ""),
}
"""Every label, and the narrowest finding that it is an example of."""
