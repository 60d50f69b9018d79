# Tables and figures.


def evaluations(methods):
    """Return the evaluations of methods, each once."""
    return list(
        dict.fromkeys(
            folder
            for method in methods
            for folder in models.evaluation_folders(STUDY, method).values()
        )
    )


def trained(methods):
    """Return what says that methods are pretrained and fine-tuned."""
    pretrained = expand(
        "done/pretrained/{configuration}/fold_{fold}",
        configuration=[models.pretraining_of(m.configuration) for m in methods],
        fold=FOLDS,
    )
    finetuned = expand(
        "done/finetuned/{dataset}/{configuration}/fold_{fold}",
        dataset=CEL,
        configuration=[m.configuration for m in methods],
        fold=models.FOLD,
    )
    return pretrained + finetuned


def of_table(wildcards):
    """Return what a table of metrics is made of."""
    return evaluations(models.table_methods(STUDY, wildcards.name))


def of_figure(wildcards):
    """Return what a figure is made of."""
    methods = models.figure_methods(STUDY, int(wildcards.figure))
    return trained(methods) if wildcards.figure == "8" else evaluations(methods)


rule table_of_networks:
    input:
        trained(models.table_methods(STUDY, "table2")),
    output:
        multiext("tables/table2", ".csv", ".md", ".tex"),
    log:
        "logs/tables/table2.log",
    params:
        paper=STUDY.paper,
    resources:
        **job("report"),
    shell:
        "nnunet-cel protocol tables . --only table2 > {log:q} 2>&1"


rule table:
    input:
        of_table,
    output:
        multiext("tables/{name}", ".csv", ".md", ".tex", "_cases.csv", "_tests.csv"),
    log:
        "logs/tables/{name}.log",
    wildcard_constraints:
        name=f"table[3-8]|{models.TRANSFER}",
    params:
        paper=STUDY.paper,
    resources:
        **job("report"),
    shell:
        "nnunet-cel protocol tables . --only {wildcards.name} > {log:q} 2>&1"


rule figure:
    input:
        of_figure,
    output:
        directory("figures/figure{figure}"),
    log:
        "logs/figures/figure{figure}.log",
    resources:
        **job("report"),
    shell:
        "nnunet-cel protocol figures . --only figure{wildcards.figure} > {log:q} 2>&1"
