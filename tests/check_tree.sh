#!/bin/bash
# check_tree.sh looks over the source as a whole: includes point the right way, every option of a
# program is in the documentation, no path of somebody's machine is in the tree. Prints each fault;
# the exit status is 0 when there is none. (Options of models: tests/check_options.py.)
set -u
cd "$(dirname "$0")/.." || exit 1
faults=0

fault() {
    echo "$*"
    faults=$((faults + 1))
}

# includes FOLDER ALLOWED...: a file of FOLDER includes only files of the ALLOWED folders.
includes() {
    local folder=$1 line allowed
    shift
    allowed=$(IFS='|' && echo "$*")
    while IFS= read -r line; do
        fault "$line: $folder may include only $*"
    done < <(grep -rnE --include='*.[ch]' --include='*.re' --include='*.y' \
                 '^ *# *include "(common|proto|coordinator|worker|client|tests)/' "$folder" 2>/dev/null |
             grep -vE "\"($allowed)/|^client/dry_run.c:[0-9]+:#include \"worker/prompt.h\"")
}

includes common common
includes proto proto common
includes coordinator coordinator proto common
includes worker worker proto common
includes client client proto common
includes tests/provider tests/provider common
includes tests/proxy tests/proxy common
if [ -z "$(ls common/*.c proto/*.c coordinator/*.c worker/*.c client/*.c 2>/dev/null)" ]; then
    fault "no sources: this is not the source tree"
fi

# Every --option of a program is in docs/operations.md or README.md.
n_options=0
for table in */options.def */*_options.def tests/*/options.def tests/*/*_options.def; do
    if [ ! -f "$table" ] || [ "$table" = common/model_options.def ]; then
        continue
    fi
    while IFS= read -r name; do
        n_options=$((n_options + 1))
        if ! grep -qE -- "--$name([^a-z0-9-]|\$)" docs/operations.md README.md 2>/dev/null; then
            fault "$table: --$name is neither in docs/operations.md nor in README.md"
        fi
    done < <(sed -nE 's/^ *OPTION\([^,]*, *"([^"]+)".*/\1/p' "$table")
done
if [ "$n_options" -eq 0 ]; then
    fault "no option was found in any options.def"
fi

# What belongs to one machine does not belong into the tree.
while IFS= read -r line; do
    fault "$line: a path of one machine"
done < <(grep -rnIE '(^|[^A-Za-z0-9_./-])/(home|root|work|Users)/[A-Za-z]' \
             --include='*' --exclude-dir=.git --exclude-dir='build*' --exclude-dir=.issues \
             --exclude=check_tree.sh --exclude=.git . | grep -v '^./tests/fuzz/corpus/')

if [ "$faults" -gt 0 ]; then
    echo "$faults faults"
    exit 1
fi
echo "tree: $n_options options documented, includes point the right way"
