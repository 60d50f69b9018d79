"""The layouts in which public data sets and clinics keep their scans.

Words:

- *layout*: where the files of a data set lie and in which formats.
- *slot*: the place of one scan in a layout; slots have a fixed order.

The layouts are those of ISBI 2015, MSSEG 2016 and WMH 2017, as distributed and as users
rearrange them, and five of clinics. All names of patients are invented.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from nnunet_cel.files import to_json
from nnunet_cel.phantom.source_subject import Kind

__all__ = ["LAYOUTS", "Layout", "described_files"]


@dataclass(frozen=True)
class Layout:
    """A layout.

    Args:
        kind: ``"wmh"`` or ``"cel"``.
        summary: What it is, in a line.
        size: Number of slots.
        slot: Gives the files of a slot by its number, as lines of content and path. The
            content is a key of ``CONTENTS`` in :mod:`nnunet_cel.phantom.source_tree`,
            with a number format after a colon, or ``text``. A path without ending is a
            folder with a DICOM series.
        axes: Gives the directions in which the voxel indices of a slot grow.
        patient: Gives the name of the patient of a slot for the headers, or nothing.
        bystanders: More files, in such lines, with images of a few voxels: what
            converters find in a download and leave alone.
        tables: Gives the text files of a tree with that many slots from their
            diagnoses.
        lesion_free: Numbers of the slots whose label map is empty.
        slice_distance: Distance in mm of slices along the last axis, if those of the
            subject can be thinned to it; None for all slices.
        label_offset: Rounding error in mm of the affine of label maps.
    """

    kind: Kind
    summary: str
    size: int
    slot: Callable[[int], str]
    axes: Callable[[int], str] = lambda _: "RAS"
    patient: Callable[[int], str] = lambda _: ""
    bystanders: str = ""
    tables: Callable[[Sequence[str]], dict[str, str]] = lambda _: {}
    lesion_free: frozenset[int] = frozenset()
    slice_distance: float | None = None
    label_offset: float = 0.0


def described_files(lines: str) -> list[tuple[str, str]]:
    """Return content and path of each file that lines describe."""
    parts = (line.split(maxsplit=1) for line in lines.splitlines() if line.strip())
    return [(content, path) for content, path in parts]


_ISBI_TIME_POINTS = {1: 4, 2: 4, 3: 5, 4: 4, 5: 4}  # of the training subjects
_ISBI_SCANS = [
    (subject, time_point)
    for subject, count in _ISBI_TIME_POINTS.items()
    for time_point in range(1, count + 1)
]


def _isbi_scan(number: int) -> tuple[str, str]:
    """Return the names of subject and scan; the first scans of all come first."""
    subject, time = sorted(_ISBI_SCANS, key=lambda scan: scan[::-1])[number]
    return f"training{subject:02d}", f"training{subject:02d}_{time:02d}"


def _isbi_original(scan: str, folder: str) -> str:
    return f"""
        raw     {folder}/{scan}_flair.nii.gz
        unused  {folder}/{scan}_mprage.nii.gz
        unused  {folder}/{scan}_pd.nii.gz
        unused  {folder}/{scan}_t2.nii.gz
    """


def _isbi_preprocessed(scan: str, folder: str, ending: str = ".nii") -> str:
    return f"""
        brain_image  {folder}/{scan}_flair_pp{ending}
        unused       {folder}/{scan}_mprage_pp{ending}
        unused       {folder}/{scan}_pd_pp{ending}
        unused       {folder}/{scan}_t2_pp{ending}
    """


def _isbi_masks(scan: str, folder: str, ending: str = ".nii") -> str:
    return f"""
        lesions:float32         {folder}/{scan}_mask1{ending}
        second_lesions:float32  {folder}/{scan}_mask2{ending}
    """


def _isbi_slot(number: int, *, hoisted: str = "") -> str:
    """Return a slot; but for orig, the folders of subject ``hoisted`` lie higher."""
    subject, scan = _isbi_scan(number)
    home = "training" if subject == hoisted else f"training/{subject}"
    return (
        _isbi_original(scan, f"training/{subject}/orig")
        + _isbi_preprocessed(scan, f"{home}/preprocessed")
        + _isbi_masks(scan, f"{home}/masks")
    )


def _isbi_by_time_point(number: int) -> str:
    subject, scan = _isbi_scan(number)
    folder = f"training/{subject}/{scan[-2:]}"
    normalized = f"brain_image {folder}/N_{scan}_flair_pp.nii"
    return _isbi_preprocessed(scan, folder) + _isbi_masks(scan, folder) + normalized


def _isbi_flat(number: int) -> str:
    _, scan = _isbi_scan(number)
    place = sorted(_isbi_scan(i) for i in range(len(_ISBI_SCANS))).index(
        _isbi_scan(number)
    )
    folder = f"ISBI_Training_{place + 1:02d}"
    ending = ".nii.gz"
    return _isbi_preprocessed(scan, folder, ending) + _isbi_masks(scan, folder, ending)


_ISBI_TEST = "".join(
    _isbi_original(f"{subject}_01", f"testdata_website/{subject}/orig")
    + _isbi_preprocessed(f"{subject}_01", f"testdata_website/{subject}/preprocessed")
    for subject in ("test01", "test02")
)

_MSSEG_SCANS = [
    (split, center, patient)
    for split, counts in (
        ("Training", {1: 5, 7: 5, 8: 5}),
        ("Testing", {1: 10, 3: 8, 7: 10, 8: 10}),
    )
    for center, count in counts.items()
    for patient in range(1, count + 1)
]
_MSSEG_AXES = {1: "PSR", 3: "ASL", 7: "PIR", 8: "RAS"}  # of the centers
_MSSEG_TRAINING = 15  # number of training scans
_MSSEG_EMPTY = 40  # number of a scan on whose lesions the raters agree nowhere
_MSSEG_OLD_IDS = (
    *("01016SACH", "01038PAGU", "01039VITE", "01040VANE", "01042GULE"),
    *("07001MOEL", "07003SATH", "07010NABO", "07040DORE", "07043SEME"),
    *("08002CHJE", "08027SYBR", "08029IVDI", "08031SEVE", "08037ROGU"),
)


def _msseg_axes(number: int) -> str:
    return _MSSEG_AXES[_MSSEG_SCANS[number][1]]


def _msseg_slot(number: int, *, training: str, testing: str) -> str:
    split, center, patient = _MSSEG_SCANS[number]
    root = training if split == "Training" else testing
    home = f"{root}/Center_{center:02d}/Patient_{patient:02d}"
    return f"""
        raw             {home}/Raw_Data/FLAIR.nii.gz
        unused          {home}/Raw_Data/T1.nii.gz
        unused          {home}/Raw_Data/T2.nii.gz
        unused          {home}/Raw_Data/DP.nii.gz
        unused          {home}/Raw_Data/GADO.nii.gz
        brain_image     {home}/Preprocessed_Data/FLAIR_preprocessed.nii.gz
        unused          {home}/Preprocessed_Data/T1_preprocessed.nii.gz
        unused          {home}/Preprocessed_Data/T2_preprocessed.nii.gz
        unused          {home}/Preprocessed_Data/DP_preprocessed.nii.gz
        unused          {home}/Preprocessed_Data/GADO_preprocessed.nii.gz
        lesions         {home}/Masks/Consensus.nii.gz
        lesions         {home}/Masks/ManualSegmentation_1.nii.gz
        second_lesions  {home}/Masks/ManualSegmentation_2.nii.gz
        brain           {home}/Masks/Brain_Mask.nii.gz
    """


def _msseg_old_masks(folder: str, ending: str) -> str:
    return f"""
        lesions         {folder}/Consensus{ending}
        lesions         {folder}/ManualSegmentation_1{ending}
        second_lesions  {folder}/ManualSegmentation_2{ending}
    """


def _msseg_old_raw(folder: str, ending: str) -> str:
    return f"""
        raw     {folder}/3DFLAIR{ending}
        unused  {folder}/3DT1{ending}
        unused  {folder}/T2{ending}
        unused  {folder}/DP{ending}
        unused  {folder}/3DT1GADO{ending}
    """


def _msseg_old_preprocessed(folder: str, ending: str) -> str:
    return f"""
        brain_image  {folder}/FLAIR_preprocessed{ending}
        unused       {folder}/T1_preprocessed{ending}
        unused       {folder}/T2_preprocessed{ending}
        unused       {folder}/DP_preprocessed{ending}
        unused       {folder}/GADO_preprocessed{ending}
    """


def _msseg_old(number: int) -> str:
    name = _MSSEG_OLD_IDS[number]
    raw = f"Unprocessed training dataset/TrainingDataset_MSSEG/{name}"
    return (
        _msseg_old_raw(raw, ".nii")
        + _msseg_old_masks(raw, ".nii")
        + _msseg_old_preprocessed(f"Pre-processed training dataset/{name}", ".nii")
        + f"""
        text  {raw}/elastix.log
        text  {raw}/IterationInfo.0.R0.txt
        text  {raw}/TransformParameters.0.txt
        text  {raw}/transformix.log
        """
    )


def _msseg_old_apart(number: int) -> str:
    name = _MSSEG_OLD_IDS[number]
    images = _msseg_old_preprocessed(f"Pre-processed/{name}", ".nii.gz")
    return images + _msseg_old_masks(f"ManualSegmentation/{name}", ".nii.gz")


def _msseg_old_test(number: int) -> str:
    _, center, _ = _MSSEG_SCANS[_MSSEG_TRAINING + number]
    # The first name is an original one.
    initials = "BRPO" if number == 0 else f"X{chr(65 + number % 26)}YZ"
    folder = f"MSSEG-1 test/{center:02d}{45 + number:03d}{initials}_1"
    return (
        _msseg_old_raw(folder, ".nii.gz")
        + _msseg_old_masks(folder, ".nii.gz")
        + f"text {folder}/input.json"
    )


_WMH_TRAINING = {
    "Amsterdam/GE3T": [*range(100, 111), 112, 113, 114, 115, 116, 126, 132, 137, 144],
    "Utrecht": [0, 2, 4, 6, 8, 11, 17, 19, *range(21, 42, 2), 49],
    "Singapore": [*range(50, 70)],
}
_WMH_ALL = {
    "Amsterdam/GE3T": range(100, 150),
    "Utrecht": range(50),
    "Singapore": range(50, 100),
    "Amsterdam/GE1T5": range(150, 160),
    "Amsterdam/Philips_VU .PETMR_01.": range(160, 170),
}
_WMH_SCANS = [
    ("training", site, scan) for site, scans in _WMH_TRAINING.items() for scan in scans
] + [
    ("test", site, scan)
    for site, scans in _WMH_ALL.items()
    for scan in scans
    if scan not in _WMH_TRAINING.get(site, [])
]


def _wmh_scan(folder: str) -> str:
    """Return the files of a scan, those of a few kinds of rearranged sets as well."""
    masks = f"""
        face_kept  {folder}/orig/FLAIR_mask.nii.gz
        face_kept  {folder}/orig/T1_mask.nii.gz
    """
    return f"""
        raw:uint16      {folder}/orig/FLAIR.nii.gz
        t1:uint16       {folder}/orig/T1.nii.gz
        unused:uint16   {folder}/orig/3DT1.nii.gz
        face_kept       {folder}/orig/3DT1_mask.nii.gz
        text            {folder}/orig/reg_3DT1_to_FLAIR.txt
        raw:float32     {folder}/pre/FLAIR.nii.gz
        t1:float32      {folder}/pre/T1.nii.gz
        unused:float32  {folder}/pre/3DT1.nii.gz
        label           {folder}/wmh.nii.gz
    """ + (masks if "Amsterdam" in folder or "GE3T" in folder else "")


def _wmh_slot(number: int) -> str:
    split, site, scan = _WMH_SCANS[number]
    folder = f"{split}/{site}/{scan}"
    if split == "test":
        return _wmh_scan(folder)
    return (
        _wmh_scan(folder)
        + f"""
        second_label  additional_annotations/observer_o3/{folder}/result.nii.gz
        second_label  additional_annotations/observer_o4/{folder}/result.nii.gz
    """
    )


def _wmh_portal(number: int) -> str:
    _, site, scan = _WMH_SCANS[number]
    return _wmh_scan(f"{site.removeprefix('Amsterdam/')}/{scan}")


def _wmh_yucca(number: int) -> str:
    _, site, scan = _WMH_SCANS[number]
    folder = {"Amsterdam/GE3T": "Amsterdam/Train_GE3T"}.get(site, f"{site}/Train")
    return f"""
        raw:float32  {folder}/{scan}/pre/FLAIR.nii.gz
        t1:float32   {folder}/{scan}/pre/T1.nii.gz
        label        {folder}/{scan}/pre/wmh.nii.gz
    """


_FAMILY_NAMES = (
    *("Doe", "Roe", "Bloggs", "Muster", "Rossi"),
    *("Dupont", "Novak", "Jansen", "Smith", "Public"),
)
_GIVEN_NAMES = (
    *("Jane", "Joe", "Erika", "Max", "Mario"),
    *("Marie", "Jan", "Anna", "John", "Mary"),
)


def _patient(number: int) -> str:
    """Return one of a hundred invented names, such as ``Doe_Jane``."""
    tens, ones = divmod(number, 10)
    return f"{_FAMILY_NAMES[ones]}_{_GIVEN_NAMES[(ones + tens) % 10]}"


def _visit(number: int) -> tuple[str, str]:
    """Return patient and session of a slot; one patient in four has two sessions.

    The session is empty for the others.
    """
    fives, ones = divmod(number, 5)
    patient, session = ((0, ""), (1, "01"), (1, "02"), (2, ""), (3, ""))[ones]
    return _patient(4 * fives + patient), session


def _visitor(number: int) -> str:
    return _visit(number)[0]


def _cel_axes(number: int) -> str:
    return ("RAS", "LPS", "PSR", "LAS")[number % 4]


def _cel_pairs(number: int) -> str:
    return f"""
        raw      imagesTr/{_patient(number)}_0000.nii.gz
        lesions  labelsTr/{_patient(number)}.nii.gz
    """


def _cel_subjects(number: int) -> str:
    return f"""
        raw      {_patient(number)}/T1_gado.nii.gz
        unused   {_patient(number)}/T1.nii.gz
        lesions  {_patient(number)}/lesions.nii.gz
    """


def _cel_bids(number: int) -> str:
    patient, session = _visit(number)
    subject = f"sub-{patient.replace('_', '')}"
    folder, name = subject, subject
    if session:
        folder, name = f"{subject}/ses-{session}", f"{subject}_ses-{session}"
    return f"""
        raw      {folder}/anat/{name}_ce-gadolinium_T1w.nii.gz
        unused   {folder}/anat/{name}_T1w.nii.gz
        lesions  derivatives/lesions/{folder}/anat/{name}_label-lesion_mask.nii.gz
    """


def _cel_bids_tables(diagnoses: Sequence[str]) -> dict[str, str]:
    rows: dict[str, str] = {}
    for number, diagnosis in enumerate(diagnoses):
        # A patient has one diagnosis, whatever the volumes of a second visit say.
        rows.setdefault(f"sub-{_visitor(number).replace('_', '')}", diagnosis)
    header = {"BIDSVersion": "1.8.0", "DatasetType": "raw", "Name": "Synthetic"}
    lines = ["participant_id\tdiagnosis", *(f"{k}\t{v}" for k, v in rows.items())]
    return {
        "participants.tsv": "\n".join(lines) + "\n",
        "dataset_description.json": to_json(header),
        "derivatives/lesions/dataset_description.json": to_json(
            header | {"DatasetType": "derivative"}
        ),
    }


def _cel_csv(number: int) -> str:
    patient, session = _visit(number)
    name = patient + (f" visit {session}" if session else "")
    return (
        f"""
        raw      from PACS/{name}/T1 gado.nii.gz
        lesions  from PACS/{name}/T1 gado seg.nii.gz
        """,
        f"""
        raw      scans 2019/{name}.nrrd
        lesions  scans 2019/{name}_seg.nrrd
        """,
        f"""
        raw      old/{name}.mha
        lesions  old/labels/{name}.nii
        """,
    )[number % 3]


def _cel_dicom(number: int) -> str:
    patient, session = _visit(number)
    folder = f"{patient}/{session or 'MR'}"
    return f"""
        raw      {folder}/T1_gado
        lesions  {folder}/lesions.nii.gz
    """


def _cel_tables(slot: Callable[[int], str], diagnoses: Sequence[str]) -> dict[str, str]:
    """Return a table of image, label map and diagnosis of every scan."""
    lines = ["subject,image,label,diagnosis"]
    for number, diagnosis in enumerate(diagnoses):
        (_, image), (_, label) = described_files(slot(number))
        lines.append(f"{_visitor(number)},{image},{label},{diagnosis}")
    return {"cases.csv": "\n".join(lines) + "\n"}


_isbi = partial(Layout, "wmh", size=len(_ISBI_SCANS), bystanders=_ISBI_TEST)
_msseg = partial(
    Layout,
    "wmh",
    size=len(_MSSEG_SCANS),
    axes=_msseg_axes,
    lesion_free=frozenset({_MSSEG_EMPTY}),
)
_msseg_first = partial(
    Layout,
    "wmh",
    size=_MSSEG_TRAINING,
    axes=_msseg_axes,
    label_offset=2e-4,
)
_wmh = partial(Layout, "wmh", axes=lambda _: "LPS", slice_distance=3.0)
_cel = partial(Layout, "cel", size=100, axes=_cel_axes, patient=_patient)
_cel_visits = partial(_cel, patient=_visitor)

LAYOUTS: Mapping[str, Layout] = {
    "isbi2015": _isbi("ISBI 2015 as distributed", slot=_isbi_slot),
    "isbi2015-hoisted": _isbi(
        "with the folders of the first subject one level up",
        slot=partial(_isbi_slot, hoisted="training01"),
    ),
    "isbi2015-timepoints": _isbi(
        "with a folder for each time point", slot=_isbi_by_time_point
    ),
    "isbi2015-flat": _isbi("compressed, ISBI_Training_01 to _21", slot=_isbi_flat),
    "msseg2016": _msseg(
        "MSSEG 2016 as distributed by Shanoir",
        slot=partial(
            _msseg_slot,
            training="MSSEG-Training/Training",
            testing="MSSEG-Testing/Testing",
        ),
    ),
    "msseg2016-lowercase": _msseg(
        "with folders training and testing",
        slot=partial(_msseg_slot, training="training", testing="testing"),
    ),
    "msseg2016-old": _msseg_first(
        "training set of the portal of 2016", slot=_msseg_old
    ),
    "msseg2016-old-masks": _msseg_first(
        "the same with a folder of its own for label maps", slot=_msseg_old_apart
    ),
    "msseg2016-old-test": _msseg(
        "test set of the portal of 2016",
        size=len(_MSSEG_SCANS) - _MSSEG_TRAINING,
        slot=_msseg_old_test,
        axes=lambda number: _msseg_axes(_MSSEG_TRAINING + number),
        lesion_free=frozenset({_MSSEG_EMPTY - _MSSEG_TRAINING}),
        label_offset=2e-4,
    ),
    "wmh2017": _wmh(
        "WMH 2017 as distributed by DataverseNL",
        size=len(_WMH_SCANS),
        slot=_wmh_slot,
        bystanders=_wmh_scan("test/Amsterdam/GE3T/111")
        + _wmh_scan("test/Amsterdam/Philips_VU .PETMR_01./160")
        + "text readme.pdf",
    ),
    "wmh2017-portal": _wmh(
        "training set of the portal of 2017", size=60, slot=_wmh_portal
    ),
    "wmh2017-yucca": _wmh("rearranged for yucca", size=60, slot=_wmh_yucca),
    "cel-pairs": _cel("imagesTr and labelsTr", slot=_cel_pairs),
    "cel-subjects": _cel("a folder for each subject", slot=_cel_subjects),
    "cel-bids": _cel_visits(
        "BIDS with lesions as derivatives",
        slot=_cel_bids,
        tables=_cel_bids_tables,
    ),
    "cel-csv": _cel_visits(
        "NIfTI, NRRD and MetaImage, listed in cases.csv",
        slot=_cel_csv,
        tables=partial(_cel_tables, _cel_csv),
    ),
    "cel-dicom": _cel_visits(
        "DICOM series, listed in cases.csv",
        slot=_cel_dicom,
        axes=lambda number: ("LPS", "PIR")[number % 2],
        tables=partial(_cel_tables, _cel_dicom),
    ),
}
"""All layouts by name."""
