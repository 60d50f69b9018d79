"""Tests of the layouts of source trees."""

from __future__ import annotations

import pytest

from nnunet_cel.phantom.layouts import LAYOUTS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_slots_are_distinct(layout: str) -> None:
    """No slot overwrites the file of another one."""
    described = LAYOUTS[layout]

    slots = [described.slot(number) for number in range(described.size)]

    found = [
        line.split(maxsplit=1)[1]
        for slot in slots
        for line in slot.splitlines()
        if line.strip()
    ]
    assert len(found) == len(set(found))


def test_isbi_slots_go_round_the_subjects() -> None:
    """Five slots are five subjects; all slots are 4, 4, 5, 4 and 4 time points."""
    layout = LAYOUTS["isbi2015-flat"]

    scans = [
        line.split("/")[1][: len("training01_01")]
        for number in range(layout.size)
        for line in layout.slot(number).splitlines()
        if "flair" in line
    ]

    assert scans[:5] == [f"training{subject:02d}_01" for subject in range(1, 6)]
    assert scans[-1] == "training03_05"
    counts = [sum(f"training{s:02d}_" in scan for scan in scans) for s in range(1, 6)]
    assert counts == [4, 4, 5, 4, 4]


def test_flat_folders_count_by_subject() -> None:
    """The last of the flat folders of ISBI 2015 is the last scan of subject 5."""
    layout = LAYOUTS["isbi2015-flat"]

    slots = "".join(layout.slot(number) for number in range(layout.size))

    assert "ISBI_Training_21/training05_04_flair_pp.nii.gz" in slots
    assert "ISBI_Training_04/training01_04_flair_pp.nii.gz" in slots


def test_wmh_slots_are_the_official_scans() -> None:
    """GE3T training comes first, and each of the 170 scans has its number once."""
    layout = LAYOUTS["wmh2017"]

    folders = [
        line.split()[1].removesuffix("/wmh.nii.gz")
        for number in range(layout.size)
        for line in layout.slot(number).replace(" .PETMR", "_.PETMR").splitlines()
        if line.endswith("/wmh.nii.gz")
    ]

    numbers = [int(folder.split("/")[-1]) for folder in folders]
    assert numbers[:14] == [*range(100, 111), 112, 113, 114]
    assert numbers[14:20] == [115, 116, 126, 132, 137, 144]
    assert all("training/Amsterdam/GE3T" in folder for folder in folders[:20])
    assert sorted(numbers) == list(range(170))
    sites = [folder.rsplit("/", 1)[0] for folder in folders]
    assert {site: sites.count(site) for site in sites} == {
        "training/Amsterdam/GE3T": 20,
        "training/Utrecht": 20,
        "training/Singapore": 20,
        "test/Amsterdam/GE3T": 30,
        "test/Utrecht": 30,
        "test/Singapore": 30,
        "test/Amsterdam/GE1T5": 10,
        "test/Amsterdam/Philips_VU_.PETMR_01.": 10,
    }


def test_names_of_patients_are_distinct() -> None:
    """A hundred scans have a hundred names."""
    layout = LAYOUTS["cel-pairs"]

    assert len({layout.patient(number) for number in range(layout.size)}) == 100
