# Raw data sets. One that exists is linked into the study before the workflow starts.

DATA = STUDY.data


def raw(dataset):
    """Return what says that a raw data set is there, nothing if it was before."""
    data = DATA.wmh if dataset == WMH else DATA.cel
    return [] if data.dataset else f"done/raw/{dataset}"


def phantoms(data):
    """Return what says that synthetic scans are there."""
    return [f"done/sources/{layout}" for layout in data.phantoms]


def data_of(layout):
    """Return the data set that synthetic scans are for."""
    return DATA.wmh if layout in DATA.wmh.phantoms else DATA.cel


rule phantom:
    output:
        touch("done/sources/{layout}"),
    log:
        "logs/phantom/{layout}.log",
    params:
        kind=lambda w: data_of(w.layout).kind,
        scans=lambda w: data_of(w.layout).phantoms[w.layout],
        spacing=lambda w: data_of(w.layout).spacing,
    threads: STUDY.resources["convert"]["threads"]
    resources:
        **job("convert"),
    shell:
        "nnunet-cel phantom {params.kind} sources/{wildcards.layout}"
        " --layout {wildcards.layout} -n {params.scans} --spacing {params.spacing}"
        " --seed {STUDY.seed} -np {threads} --no-progress --overwrite > {log:q} 2>&1"


rule convert_wmh:
    input:
        phantoms(DATA.wmh),
    output:
        touch(f"done/raw/{WMH}"),
    log:
        f"logs/convert/{WMH}.log",
    params:
        options=[
            part
            for name in [*DATA.wmh.sources, *DATA.wmh.phantoms]
            for part in (f"--{name}", DATA.wmh.sources.get(name, f"sources/{name}"))
        ]
        + DATA.wmh.options,
        number=models.dataset_id(WMH),
    threads: STUDY.resources["convert"]["threads"]
    resources:
        **job("convert"),
    shell:
        "nnunet-cel convert wmh {params.options:q} -o raw -d {params.number} --name WMH"
        " --seed {STUDY.seed} -np {threads} --no-progress --overwrite > {log:q} 2>&1"


rule convert_cel:
    input:
        phantoms(DATA.cel),
    output:
        touch("done/raw/{dataset}"),
    log:
        "logs/convert/{dataset}.log",
    params:
        source=DATA.cel.source or [f"sources/{name}" for name in DATA.cel.phantoms],
        options=DATA.cel.options,
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
