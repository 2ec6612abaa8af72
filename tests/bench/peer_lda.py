"""Topic models of public tools in the form that bench_lda reads.

peer_lda.py tomotopy IN TOPICS ALPHA BETA ITERATIONS PHI   trains, one worker; prints tokens a CPU second
peer_lda.py warplda IN TOPICS ALPHA BETA ITERATIONS PHI PROGRAMS   the same with WarpLDA's programs
"""
import array
import os
import resource
import subprocess
import sys
import tempfile
import time

WORDS = 20000  # of bench_lda's drawn documents


def write(path, topics, rows):
    with open(path, "wb") as f:
        array.array("i", [WORDS, topics]).tofile(f)
        for row in rows:
            row.tofile(f)


def tomotopy(src, topics, alpha, beta, iterations, out):
    import tomotopy as tp

    topics, iterations = int(topics), int(iterations)
    model = tp.LDAModel(k=topics, alpha=float(alpha), eta=float(beta), seed=1)
    model.optim_interval = 0  # the priors stay as given, as ours do
    tokens = 0
    with open(src) as f:
        for line in f:
            words = line.split()
            tokens += len(words)
            model.add_doc(words)
    model.train(0, workers=1)
    start = time.process_time()
    model.train(iterations, workers=1)
    print("%.0f" % (tokens * iterations / (time.process_time() - start)))
    ids = [int(w) for w in model.used_vocabs]
    rows = []
    for k in range(topics):
        row = array.array("f", [1e-9]) * WORDS
        for w, p in zip(ids, model.get_topic_word_dist(k)):
            row[w] = float(p)
        rows.append(row)
    write(out, topics, rows)


def cpu_of(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL,
                   env=dict(os.environ, OMP_NUM_THREADS="1"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def warplda(src, topics, alpha, beta, iterations, out, programs):
    topics, iterations, tokens = int(topics), int(iterations), 0
    with tempfile.TemporaryDirectory() as tmp:
        prefix = os.path.join(tmp, "w")
        with open(src) as f, open(os.path.join(tmp, "in"), "w") as g:
            for i, line in enumerate(f):
                tokens += len(line.split())
                g.write("d%d d%d %s" % (i, i, line))
        cpu_of([programs + "/format", "-input", os.path.join(tmp, "in"), "-prefix", prefix])
        run = [programs + "/warplda", "-prefix", prefix, "-k", str(topics), "-alpha",
               str(topics * float(alpha)), "-beta", beta, "-nodumpz", "-nowriteinfo", "-niter"]
        # Loading, and the writing of the model, are not sampling.
        spent = -cpu_of(run + ["1"])
        spent += cpu_of(run + [str(iterations + 1)])
        with open(prefix + ".vocab") as f:
            ids = [int(line.split()[-1]) for line in f]
        rows = [array.array("f", [float(beta)]) * WORDS for _ in range(topics)]
        with open(prefix + ".model") as f:
            f.readline()
            for w, line in zip(ids, f):
                for entry in line.split()[1:]:
                    k, n = entry.split(":")
                    rows[int(k)][w] += float(n)
    for row in rows:
        total = sum(row)
        for w in range(WORDS):
            row[w] /= total
    write(out, topics, rows)
    print("%.0f" % (tokens * iterations / spent))


if sys.argv[1] == "tomotopy":
    tomotopy(*sys.argv[2:])
else:
    warplda(*sys.argv[2:])
