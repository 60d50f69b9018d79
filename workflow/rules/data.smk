# Raw data sets. One that exists is linked into the study before the workflow starts.

WMH_SOURCES = dict(STUDY.wmh.sources) | {
    name: f"sources/{name}" for name in STUDY.wmh.phantoms
}
CEL_SOURCES = dict(STUDY.cel.sources) | {
    name: f"sources/{name}" for name in STUDY.cel.phantoms
}


def raw(dataset):
    """Return what says that a raw data set is there, nothing if it was before."""
    data = STUDY.wmh if dataset == WMH else STUDY.cel
    return [] if data.dataset else f"done/raw/{dataset}"


def phantoms(data):
    """Return what says that synthetic scans are there."""
    return [f"done/sources/{layout}" for layout in data.phantoms]


rule phantom:
    output:
        touch("done/sources/{layout}"),
    log:
        "logs/phantom/{layout}.log",
    params:
        kind=lambda w: "wmh" if w.layout in STUDY.wmh.phantoms else "cel",
        scans=lambda w: (dict(STUDY.wmh.phantoms) | dict(STUDY.cel.phantoms))[w.layout],
        spacing=lambda w: (
            STUDY.wmh if w.layout in STUDY.wmh.phantoms else STUDY.cel
        ).spacing,
    threads: STUDY.resources["convert"]["threads"]
    resources:
        **job("convert"),
    shell:
        "nnunet-cel phantom {params.kind} sources/{wildcards.layout}"
        " --layout {wildcards.layout} -n {params.scans} --spacing {params.spacing}"
        " --seed {STUDY.seed} -np {threads} --no-progress --overwrite > {log:q} 2>&1"


rule convert_wmh:
    input:
        phantoms(STUDY.wmh),
    output:
        touch(f"done/raw/{WMH}"),
    log:
        f"logs/convert/{WMH}.log",
    params:
        options=[
            part for name, path in WMH_SOURCES.items() for part in (f"--{name}", path)
        ]
        + list(STUDY.wmh.options),
        number=models.dataset_id(WMH),
    threads: STUDY.resources["convert"]["threads"]
    resources:
        **job("convert"),
    shell:
        "nnunet-cel convert wmh {params.options:q} -o raw -d {params.number} --name WMH"
        " --seed {STUDY.seed} -np {threads} --no-progress --overwrite > {log:q} 2>&1"


rule convert_cel:
    input:
        phantoms(STUDY.cel),
    output:
        touch("done/raw/{dataset}"),
    log:
        "logs/convert/{dataset}.log",
    params:
        source=list(CEL_SOURCES.values()),
        options=list(STUDY.cel.options),
        number=lambda w: models.dataset_id(w.dataset),
        seed=lambda w: STUDY.seed + CEL.index(w.dataset),
    wildcard_constraints:
        dataset="|".join(CEL),
    threads: STUDY.resources["convert"]["threads"]
    resources:
        **job("convert"),
    shell:
        "nnunet-cel convert cel {params.source:q} {params.options:q}"
        " -o raw -d {params.number} --name CEL --seed {params.seed} -np {threads}"
        " --linking-table linking_tables/{wildcards.dataset}.csv"
        " --no-progress --overwrite > {log:q} 2>&1"
