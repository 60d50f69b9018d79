# Label maps of the CEL test half, by models of all stages.

PREDICT = (
    'nnUNet_results="$PWD"/results/{params.stage}'
    " nnUNet_def_n_proc={threads} OMP_NUM_THREADS={threads}"
    " {ON_GPU}nnUNetv2_predict -d {params.number} -c {wildcards.configuration}"
    " {params.model} -f %s -device {DEVICE}"
    " -i raw/{wildcards.dataset}/imagesTs -o {output:q}"
    " -npp {params.processes} -nps {params.processes} --disable_progress_bar"
    " > {log:q} 2>&1"
)


def half_the_threads(wildcards, threads):
    """Return the processes that read images, and those that write label maps.

    With none, nnU-Net does all in one process, and starts no other.
    """
    return threads // 2


rule predict_pretrained:
    input:
        raw=lambda w: raw(w.dataset),
        best="best_folds/{configuration}.txt",
    output:
        directory("predictions/pretrained/{dataset}/{configuration}"),
    log:
        "logs/predict/pretrained_{dataset}_{configuration}.log",
    params:
        stage="pretrained",
        number=models.dataset_id(WMH),
        model=OURS,
        processes=half_the_threads,
    threads: STUDY.resources["predict"]["threads"]
    resources:
        **job("predict"),
    shell:
        # .../fold_3/checkpoint_final.pth
        PREDICT % """$(sed 's|.*/fold_\\([0-9]*\\)/[^/]*$|\\1|' {input.best:q})"""


rule predict:
    input:
        f"done/{{stage}}/{{dataset}}/{{configuration}}/fold_{models.FOLD}",
    output:
        directory("predictions/{stage}/{dataset}/{configuration}"),
    log:
        "logs/predict/{stage}_{dataset}_{configuration}.log",
    params:
        stage=lambda w: w.stage,
        number=lambda w: models.dataset_id(w.dataset),
        model=lambda w: (
            f"-tr {STUDY.nnunet.trainer} -p nnUNetPlans" if w.stage == "nnunet" else OURS
        ),
        processes=half_the_threads,
    wildcard_constraints:
        stage="direct|finetuned|nnunet",
    threads: STUDY.resources["predict"]["threads"]
    resources:
        **job("predict"),
    shell:
        PREDICT % models.FOLD
