# Plans, with the settings of the study, and preprocessed cases.


rule plan:
    input:
        lambda w: raw(w.dataset),
    output:
        touch("done/plan/{dataset}"),
    log:
        "logs/plan/{dataset}.log",
    params:
        number=lambda w: models.dataset_id(w.dataset),
        spacing=[STUDY.planning.spacing] * 3,
        memory=STUDY.planning.gpu_memory,
    threads: STUDY.resources["plan"]["threads"]
    resources:
        **job("plan"),
    shell:
        "("
        "nnUNetv2_plan_and_preprocess -d {params.number} -pl FCADensePlanner -c 2d"
        " -overwrite_target_spacing {params.spacing} -gpu_memory_target {params.memory}"
        " -npfp {threads} -np {threads} --verify_dataset_integrity"
        " && nnunet-cel protocol settings . {wildcards.dataset}"
        ") > {log:q} 2>&1"


# After ours: both use one fingerprint.
rule plan_nnunet:
    input:
        "done/plan/{dataset}",
    output:
        touch("done/plan_nnunet/{dataset}"),
    log:
        "logs/plan_nnunet/{dataset}.log",
    params:
        number=lambda w: models.dataset_id(w.dataset),
        configurations=list(STUDY.nnunet.configurations),
    threads: STUDY.resources["plan"]["threads"]
    resources:
        **job("plan"),
    shell:
        "nnUNetv2_plan_and_preprocess -d {params.number} -c {params.configurations}"
        " -npfp {threads} -np {threads} > {log:q} 2>&1"
