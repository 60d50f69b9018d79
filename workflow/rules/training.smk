# Trainings. One that was interrupted continues from its last checkpoint; what nnU-Net
# wrote is no output of a rule, so that nothing removes it. If the workflow is killed, a
# training may live on: the one that is to continue it waits for its end, so that no two
# write to one folder.
# On a CPU nnU-Net wants a thread for every core in each of several jobs. Our trainer
# keeps to OMP_NUM_THREADS; threads of other trainers sleep while they wait for one
# another, which halves the time. (With OMP_THREAD_LIMIT they wait forever.)

TRAIN = (
    "mkdir -p .locks; exec 9> .locks/{params.stage}_{params.number}"
    "_{wildcards.configuration}_{wildcards.fold};"
    " if command -v flock > /dev/null; then flock 9 || true; fi;"
    " if compgen -G {params.checkpoints:q} > /dev/null; then set -- --c;"
    " else set -- %s; fi;"
    ' nnUNet_results="$PWD"/results/{params.stage}'
    " nnUNet_n_proc_DA={threads} nnUNet_def_n_proc={threads}"
    " OMP_NUM_THREADS={threads} OMP_WAIT_POLICY=PASSIVE"
    " {ON_GPU}nnUNetv2_train {params.number} {wildcards.configuration}"
    " {wildcards.fold} {params.model} -device {DEVICE}"
    ' "$@" > {log:q} 2>&1 9>&- || exit "$?"'
)
OURS = "-tr FCADenseTrainer -p FCADensePlans"


def checkpoints(stage, dataset=None):
    """Return the pattern of the checkpoints of a training."""
    return lambda w: (
        models.model_folder(STUDY, stage, dataset or w.dataset, w.configuration, w.fold)
        + "/checkpoint_*.pth"
    )


rule pretrain:
    input:
        f"done/plan/{WMH}",
    output:
        touch("done/pretrained/{configuration}/fold_{fold}"),
    log:
        "logs/pretrained/{configuration}_fold_{fold}.log",
    params:
        stage="pretrained",
        number=models.dataset_id(WMH),
        model=OURS,
        checkpoints=checkpoints("pretrained", WMH),
    threads: STUDY.resources["train"]["threads"]
    resources:
        **job("train"),
    shell:
        TRAIN % ""


rule best_fold:
    localrule: True
    input:
        expand("done/pretrained/{{configuration}}/fold_{fold}", fold=FOLDS),
    output:
        "best_folds/{configuration}.txt",
    log:
        "logs/best_folds/{configuration}.log",
    params:
        number=models.dataset_id(WMH),
    shell:
        'nnUNet_results="$PWD"/results/pretrained nnunet-cel best-fold {params.number}'
        " -c {wildcards.configuration} > {output:q} 2> {log:q}"


rule finetune:
    input:
        plan="done/plan/{dataset}",
        best=lambda w: f"best_folds/{models.pretraining_of(w.configuration)}.txt",
    output:
        touch("done/finetuned/{dataset}/{configuration}/fold_{fold}"),
    log:
        "logs/finetuned/{dataset}_{configuration}_fold_{fold}.log",
    params:
        stage="finetuned",
        number=lambda w: models.dataset_id(w.dataset),
        model=OURS,
        checkpoints=checkpoints("finetuned"),
    threads: STUDY.resources["train"]["threads"]
    resources:
        **job("train"),
    shell:
        TRAIN % '-pretrained_weights "$(cat {input.best:q})"'


rule direct:
    input:
        "done/plan/{dataset}",
    output:
        touch("done/direct/{dataset}/{configuration}/fold_{fold}"),
    log:
        "logs/direct/{dataset}_{configuration}_fold_{fold}.log",
    params:
        stage="direct",
        number=lambda w: models.dataset_id(w.dataset),
        model=OURS,
        checkpoints=checkpoints("direct"),
    threads: STUDY.resources["train"]["threads"]
    resources:
        **job("train"),
    shell:
        TRAIN % ""


rule train_nnunet:
    input:
        "done/plan_nnunet/{dataset}",
    output:
        touch("done/nnunet/{dataset}/{configuration}/fold_{fold}"),
    log:
        "logs/nnunet/{dataset}_{configuration}_fold_{fold}.log",
    params:
        stage="nnunet",
        number=lambda w: models.dataset_id(w.dataset),
        model=f"-tr {STUDY.nnunet.trainer} -p nnUNetPlans",
        checkpoints=checkpoints("nnunet"),
    threads: STUDY.resources["train"]["threads"]
    resources:
        **job("train"),
    shell:
        TRAIN % ""
