#!/usr/bin/env bash
# R 4.2.2 (Debian 12): if a worker of mclapply() is terminated, the results of all jobs that were assigned to it are NULL, also
# those of jobs that had not begun. R prints a warning, goes on, and exits with 0.
. "$(dirname "$0")/lib.sh"
unpack r-base-core=4.2.2.20221110-2 libblas3 liblapack3 libgfortran5 libgomp1 libquadmath0 libicu72 libpcre2-8-0 libtirpc3 \
    libreadline8 libtinfo6 libcurl4 libtcl8.6 libtk8.6 libpaper1

cat >"$folder/jobs.R" <<'R'
library(parallel)
folder <- commandArgs(TRUE)[1]
job <- function(number) {
    if (number == 2) {
        writeLines(as.character(Sys.getpid()), file.path(folder, "pid.new"))
        file.rename(file.path(folder, "pid.new"), file.path(folder, "pid"))
        Sys.sleep(30)
    }
    number
}
results <- mclapply(1:4, job, mc.cores = 2)
cat("results:", sapply(results, function(result) if (is.null(result)) "NULL" else result), "\n")
R
R_HOME=$folder/root/usr/lib/R "$folder/root/usr/lib/R/bin/exec/R" --vanilla --no-echo --file="$folder/jobs.R" \
    --args "$folder" >"$folder/out" 2>&1 &
run=$!
started+=("$run")
for _ in $(seq 100); do
    [ -e "$folder/pid" ] && break
    sleep 0.1
done
kill "$(cat "$folder/pid")"
code=0
wait "$run" || code=$?
out=$(cat "$folder/out"; echo "exit code $code")
expect 'there is a warning' 'did not deliver a result' "$out"
expect 'both jobs of the worker have no result' '^results: 1 NULL 3 NULL' "$out"
expect 'R exits as after success' '^exit code 0$' "$out"
