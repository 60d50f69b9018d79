# Metrics of every case.

EVALUATE = (
    "nnunet-cel evaluate {params.predictions:q} {params.references:q} -o {output:q}"
    " --protocol {params.protocol:q} -np {threads} %s > {log:q} 2>&1"
)


rule evaluate:
    input:
        predictions="predictions/{stage}/{dataset}/{configuration}",
    output:
        directory("evaluations/{stage}/{dataset}/{configuration}"),
    log:
        "logs/evaluate/{stage}_{dataset}_{configuration}.log",
    params:
        predictions=lambda w, input: input.predictions,
        references="raw/{dataset}/labelsTs",
        protocol=STUDY.protocol,
    threads: STUDY.resources["evaluate"]["threads"]
    resources:
        **job("evaluate"),
    shell:
        EVALUATE % ""


# The pretraining on its own validation cases, for Table 3.
rule evaluate_fold:
    input:
        "done/pretrained/{configuration}/fold_{fold}",
    output:
        directory(
            f"evaluations/{models.CROSS_VALIDATION}/{WMH}/{{configuration}}/fold_{{fold}}"
        ),
    log:
        "logs/evaluate/crossvalidation_{configuration}_fold_{fold}.log",
    params:
        predictions=lambda w: models.model_folder(
            STUDY, "pretrained", WMH, w.configuration, w.fold
        )
        + "/validation",
        references=f"raw/{WMH}/labelsTr",
        protocol=STUDY.protocol,
    threads: STUDY.resources["evaluate"]["threads"]
    resources:
        **job("evaluate"),
    shell:
        EVALUATE % "--subset"
