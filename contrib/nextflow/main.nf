// One process for each pair of a table (columns id, moving, fixed):
//
//     nextflow run contrib/nextflow/main.nf --table pairs.tsv --out results
//
// A whole cohort in one process, which loads the model once, is faster: uresnet cohort.

nextflow.enable.dsl = 2

params.table = null
params.out = 'results'
params.options = '--no-report'

process REGISTER {
    tag "${id}"
    cpus 2
    memory '4 GB'
    errorStrategy 'retry'
    maxRetries 1
    publishDir params.out, mode: 'copy'

    input:
    tuple val(id), path(moving, stageAs: 'moving/*'), path(fixed, stageAs: 'fixed/*')

    output:
    tuple val(id), path("${id}"), emit: results

    script:
    """
    uresnet register "${moving}" "${fixed}" --output "${id}" --threads ${task.cpus} ${params.options}
    """
}

workflow {
    if (!params.table) {
        error 'Give a table with --table (columns id, moving, fixed).'
    }
    pairs = Channel
        .fromPath(params.table, checkIfExists: true)
        .splitCsv(header: true, sep: '\t')
        .map { row -> tuple(row.id, file(row.moving, checkIfExists: true), file(row.fixed, checkIfExists: true)) }
    REGISTER(pairs)
}
