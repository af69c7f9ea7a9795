#!/usr/bin/env bash
# From speech to a teacher, a distilled student, their scores and a report, in seven stages:
#   0 corpus   1 manifests   2 teacher   3 student   4 scores   5 export and speed   6 report
#
#   ./run.sh                                                     the embedded corpus of synthetic speech
#   ./run.sh --corpus voxceleb --voxceleb1 DIR --voxceleb2 DIR   VoxCeleb
#   ./run.sh --corpus libri_mini --librispeech DIR               a small corpus of real speech, of LibriSpeech
#   ./run.sh --data DIR --trials FILE --trials_root DIR          <speaker>/[<session>/]<utterance>.{wav,flac,mp3,...}, or a list
#   ./run.sh --teacher_model campplus                            a student of a published model, here of CAM++
#   ./run.sh --unlabelled DIR --teacher_model campplus           the same from any folder of speech, without labels
#   ./run.sh --student hparams/ssl/sv_mixer_wavlm_large.yaml     a student of WavLM, which is taken as it is
#
# What a corpus is made from are options of its own, which `python local/prepare_corpus.py NAME --help` explains.
# A stage that is done can be run again, and training goes on from its last checkpoint. Corpora are put into data/,
# experiments into exp/<corpus>/<system>/seed_<seed>/, both beside this script unless --data_root and --exp_root name
# other places, and logs into exp/<corpus>/log/.
set -euo pipefail

stage=0  # the first stage to run
stop_stage=6  # the last stage to run
corpus=mini  # a corpus that a file of speechbrain_ext/corpora makes, such as voxceleb; or the name to give the speech of --data
data=""  # one's own training speech: a folder, <speaker>/<session>/<utterance> or <speaker>/<utterance>; Kaldi's data folder; a CSV or JSON lines
unlabelled=""  # further training speech, whose speakers nobody knows: a folder, laid out in any way; without --data and --corpus there is no other
name=""  # another way to name the corpus of --data or --unlabelled, which else takes the folder's name
data_root=data  # folder that corpora are put into
exp_root=exp  # folder that experiments and logs are put into
trials=""  # trial lists to score, "label enrol test", "enrol test label" or a table with a header; several in quotes
trials_root=""  # folder that the names in the trial lists are below, or a list as for --data
enrol=""  # file with the utterances of the models that the trial lists name, "model utterance utterance ..."
exclude_speakers=""  # file of speakers to leave out of training, one a line
speaker_groups=""  # file with lines "speaker group", such as a corpus or sex: held-out speakers are compared within groups
allow_overlap=false  # go on although speakers of a trial list are training speakers
manifest_args=""  # overrides of keys of hparams/manifests.yaml, as in "--valid_speakers 5"
teacher=hparams/teacher.yaml  # the teacher's YAML
student=hparams/v2.yaml  # the student's YAML; of a --teacher_model, or of its experiment, it is hparams/v6.yaml where none is given
teacher_args=""  # overrides of keys of the teacher's YAML, as in "--number_of_epochs 20 --lr 0.001"
student_args=""  # overrides of keys of the student's YAML, as in "--alpha 0.5"
large_margin=""  # YAML of a second training in stage 3, which begins with the student's weights, as hparams/v4_large_margin.yaml; what it trains is then the student
large_margin_args=""  # overrides of keys of that YAML; --student_args are of the first training alone, so sizes and noise belong here too
teacher_model=""  # a trained model that teaches in place of stage 2's training: a name of hparams/teachers such as campplus, whose weights are then fetched, an ONNX or TorchScript file, a folder that SpeechBrain loads or its name on the hub
teacher_source=""  # name on the hub or folder of the model that a student of hparams/ssl learns from, in place of its YAML's
offline=false  # never ask a model hub: what is not on this machine is an error
teacher_exp=""  # folder of a trained teacher to use: stage 2 is left out
student_exp=""  # folder of the student's experiment, with --large_margin of its first training, in place of exp/<corpus>/<system>/seed_<seed>
score_norm=asnorm  # asnorm, snorm or none: how a cohort of training speakers normalises scores, shown beside those that are not
calibration=score  # what makes log-likelihood ratios, fitted on held-out training speakers: "score", with any of duration, norm and cohort beside it in quotes, or none
formats=""  # of the student's files that run without PyTorch, some of "onnx int8 fp16", or none; onnx and int8 where the network can leave PyTorch
seed=1  # of both trainings
ngpu=0  # processes of training and extraction, one for each GPU; 0 is one process on whatever there is
precision=fp32  # of training: fp32, fp16 or bf16
jobs=0  # processes that prepare data; 0 is one for each CPU
mini_args="--number_of_epochs 5 --crop_seconds 1.5 --lr 0.001 --lr_decay 0.7"  # overrides for both trainings on the embedded corpus: minutes on 2 CPU cores
mini_teacher_args="--batch_size 16 --grad_accumulation_factor 1"  # and for its teacher
mini_student_args="--batch_size 32"  # and for its student
mini_ssl_args="--number_of_epochs 5 --crop_seconds 1.5 --batch_size 16"  # overrides for systems of hparams/ssl, in place of these three
mini_large_margin_args="--number_of_epochs 2 --crop_seconds 3.0 --batch_size 32"  # and for --large_margin there
# End of options.

caller=$PWD
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=recipes/VoxCeleb/distill_mixer/utils/parse_options.sh
. "$here/utils/parse_options.sh" "$@"
cd "$here"

die() { echo "error: $*" >&2; exit 1; }

# Paths of the command line are the caller's; the defaults are this folder's.
for option in data unlabelled data_root exp_root trials_root enrol exclude_speakers speaker_groups teacher student large_margin teacher_exp student_exp; do
    path=${!option}
    case $given in *" $option "*) ;; *) continue ;; esac
    case $path in "" | /*) continue ;; esac
    [ -e "$caller/$path" ] || [ ! -e "$path" ] || continue # one that only this folder has
    printf -v "$option" '%s' "$caller/$path"
done
lists=()
if [ -n "$trials" ]; then
    if [ -e "$trials" ] || [ -e "$caller/$trials" ]; then lists=("$trials"); else read -r -a lists <<< "$trials"; fi
    for i in "${!lists[@]}"; do
        case ${lists[i]} in /*) ;; *) lists[i]=$caller/${lists[i]} ;; esac
        [ -e "${lists[i]}" ] || die "--trials ${lists[i]}: there is no such file."
    done
fi

case $stage,$stop_stage in
    [0-6],[0-6]) [ "$stage" -le "$stop_stage" ] || die "--stage $stage comes after --stop_stage $stop_stage." ;;
    *) die "the stages are 0 to 6, and --stage $stage --stop_stage $stop_stage are not." ;;
esac
for option in seed ngpu jobs; do
    case ${!option} in "" | *[!0-9]*) die "--$option is a whole number from 0 up, not '${!option}'." ;; esac
done
case $score_norm in asnorm | snorm | none) ;; *) die "--score_norm $score_norm: give asnorm, snorm or none." ;; esac
[ "$calibration" = none ] || for word in ${calibration:-nothing}; do
    case $word in score | duration | norm | cohort) ;; *) die "--calibration '$calibration': give score, with duration, norm and cohort or without, or none." ;; esac
done
[ "$jobs" -gt 0 ] || jobs=$(getconf _NPROCESSORS_ONLN)

# NAME: whether a folder may have it, and nothing is written outside of the one that it is put into.
is_name() { case $1 in "" | .* | -* | */* | *[[:cntrl:]]*) return 1 ;; esac; }

# The corpus: `kind` says what makes it, `name` where it is put.
[ -z "$data" ] || [ -e "$data" ] || die "--data $data: there is no such folder or list."
if [ -n "$unlabelled" ]; then
    [ -d "$unlabelled" ] || die "--unlabelled $unlabelled: there is no such folder."
    unlabelled=$(CDPATH="" cd -- "$unlabelled" && pwd) || die "--unlabelled $unlabelled cannot be opened: look at its permissions."
fi
alone=false # whether no speech has labels
if [ -n "$unlabelled" ] && [ -z "$data" ]; then
    case $given in *" corpus "*) ;; *) alone=true ;; esac
fi
case $given,$name in *" name "*,) die "--name is empty: leave it out, or give the corpus a name." ;; esac
kind=$corpus
if [ -n "$data" ] || $alone; then
    kind=own
    if [ -n "$data" ]; then
        folder=$data list=""
        [ -d "$data" ] || { folder=$(dirname "$data") && list=/$(basename "$data"); }
        data=$(CDPATH="" cd -- "$folder" && pwd)$list || die "--data $data cannot be opened: look at its permissions."
    fi
    [ -n "$name" ] || [ "$corpus" = mini ] || name=$corpus
    if [ -z "$name" ]; then
        speech=${data:-$unlabelled}
        name=${speech##*/}
        [ ! -f "$speech" ] || name=${name%.*}
        case $name in train | dev | wav | unlabelled) name=$(basename "$(dirname "$speech")") ;; esac # the part's, not the corpus's
    fi
    [ "$name" != mini ] || die "a corpus of one's own is not to be called mini: name it with --name."
else
    [ -n "$name" ] || name=$corpus
    kind=$name
fi
is_name "$name" ||
    die "the corpus cannot be called '$name': give a name with --name, without a slash, that begins with neither . nor -."
corpus_dir=$data_root/$name
manifests=$corpus_dir/manifests

# What is written is kept in the log of its stage. Bars of progress go to the terminal alone, where there is one.
export TQDM_DISABLE=1 PYTHONUNBUFFERED=1
if [ -t 2 ]; then PROGRESS_TERMINAL=$(tty <&2) && export PROGRESS_TERMINAL; fi
! $offline || export HF_HUB_OFFLINE=1

# A trained model that comes along as an experiment of its own
if [ -n "$teacher_model" ]; then
    for option in teacher teacher_exp teacher_source; do
        case $given in *" $option "*) die "--$option and --teacher_model name two teachers: leave one out." ;; esac
    done
    [ ! -e "$caller/$teacher_model" ] || teacher_model=$(cd "$caller" && realpath -- "$teacher_model")
fi

words() { [ -z "${1// /}" ] || xargs printf '%s\0' <<< "$1"; } # as a shell would split them, quotes being quotes
for text in "$teacher_args" "$student_args" "$large_margin_args" "$manifest_args"; do
    words "$text" > /dev/null 2>&1 || die "A quote is not closed in: $text"
done

# The Python to run with. It says what the YAML files are (speechbrain_ext/systems/describe.py explains it), and which
# options make the corpus.
for option in teacher student ${large_margin:+large_margin}; do
    [ -f "${!option}" ] || die "--$option ${!option}: there is no such file."
done
case $given,$large_margin in *" large_margin_args "*,) die "--large_margin_args does nothing without --large_margin." ;; esac
asked=()
for option in student teacher large_margin teacher_model teacher_exp; do # a student's YAML names its teacher, too
    case $given in *" $option "*) [ -z "${!option}" ] || asked+=("--$option" "${!option}") ;; esac
done
[ -z "$teacher_model" ] || [ "$stage" -gt 2 ] || asked+=("--teacher_args=$teacher_args")
if [ "$stage" -le 1 ] || [ ${#others[@]} -gt 0 ]; then asked+=(--corpus "$kind"); fi # which takes a second or two
makers="" corpus_options=""
student_system="" student_of_model=false label_free="" teacher_system="" teacher_of_model=false teacher_as_it_is=false teacher_name="" large_margin_system="" extras=mini
python=$(../../../tools/setup_env.sh mini)
PYTHONPATH=$(cd ../../.. && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
facts=$("$python" -m speechbrain_ext.systems.describe ${asked[@]+"${asked[@]}"})
eval "$facts"
[ "$extras" = mini ] || python=$(../../../tools/setup_env.sh "$extras")
takes() { case " $corpus_options " in *" --$1 "*) ;; *) return 1 ;; esac; } # NAME: whether the corpus has this option

# What the corpus is made from.
if [ -z "$corpus_options" ] && [ "$stage" -eq 0 ]; then
    case $given in *" name "*)
        case $given in *" corpus "*) die "--name $name names the speech of --data or --unlabelled, and --corpus $corpus names itself: leave one of both options out." ;; esac
        die "--name $name names the speech of --data or --unlabelled: give one, or, in place of --name, --corpus $makers." ;;
    esac
    die "there is no corpus '$name' to make: choose $makers, or name the folder of its speech with --data."
fi
corpus_args=()
for word in ${others[@]+"${others[@]}"}; do
    case $word in
        --*) takes "${word#--}" || _refuse "there is no option $word here, nor has the corpus $kind one" ;;
        /*) ;;
        *[!0-9.]*) [ ! -e "$caller/$word" ] || word=$caller/$word ;; # a path is the caller's, too
    esac
    corpus_args+=("$word")
done
if { [ "$kind" = own ] || [ -z "$corpus_options" ]; } && [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
    [ ${#lists[@]} -eq 0 ] || [ -n "$trials_root" ] || [ -e "$corpus_dir/test" ] ||
        die "--trials needs --trials_root, the folder that the names in the lists are below."
    [ ${#lists[@]} -gt 0 ] || [ -z "$trials_root" ] ||
        die "--trials_root needs --trials, the lists whose utterances are below it."
fi
for option in enrol exclude_speakers speaker_groups; do
    [ -z "${!option}" ] || [ -f "${!option}" ] || die "--$option ${!option}: there is no such file."
done
launch=("$python")
[ "$ngpu" -eq 0 ] || launch=("$python" -m speechbrain_ext.training.launch "$ngpu")

# A model that is taken as it is, or that a teacher starts from: another one than the YAML has.
[ -z "$teacher_source" ] || [ ! -d "$caller/$teacher_source" ] || teacher_source=$caller/$teacher_source
case $teacher_source in
    /* | .*) [ -d "$teacher_source" ] || die "--teacher_source $teacher_source: there is no such folder." ;;
esac
source_args=()
[ -z "$teacher_source" ] || source_args+=(--teacher_source "$teacher_source")
! $offline || source_args+=(--offline True)
if $teacher_as_it_is; then
    for option in teacher teacher_args teacher_exp; do
        case $given in *" $option "*) die "--$option does nothing: the teacher of $student is its teacher_source." ;; esac
    done
    [ -z "$teacher_name" ] || teacher_name=${teacher_source:-$teacher_name}
    case " $student_args" in # which win
        *" --teacher_source "*) read -r teacher_name _ <<< "${student_args##*--teacher_source }" ;;
    esac
elif [ -n "$teacher_source" ] && ! $teacher_of_model; then
    die "--teacher_source does nothing: the teacher of $student is $teacher, which starts from no other model."
fi
if [ -n "$teacher_model" ]; then
    ! $teacher_as_it_is || die "--teacher_model does nothing: the teacher of $student is its teacher_source."
    teacher_name=$teacher_model
fi

if $alone && [ "$stage" -le 3 ] && [ "$stop_stage" -ge 2 ]; then
    [ -z "$large_margin" ] ||
        die "--unlabelled $unlabelled: a margin needs labels: leave --large_margin out, or give labelled speech, by --data."
    ! $teacher_as_it_is ||
        die "--unlabelled $unlabelled: $student has no teacher with embeddings of speakers, and without labels nothing else can teach it: choose another student, or give labelled speech, by --data."
    [ "$stage" -eq 3 ] || [ -n "$teacher_model$teacher_exp" ] ||
        die "--unlabelled $unlabelled: a teacher cannot be trained without labels: give one that is trained, by --teacher_model or --teacher_exp, or labelled speech, by --data."
fi

# Overrides of the trainings. What is given in so many words comes last, and wins.
if [ "$kind" = mini ]; then
    if [ -n "$teacher_model" ]; then :; elif $teacher_of_model; then teacher_args="$mini_ssl_args $teacher_args"; else teacher_args="$mini_args $mini_teacher_args $teacher_args"; fi
    if $student_of_model; then student_args="$mini_ssl_args $student_args"; else student_args="$mini_args $mini_student_args $student_args"; fi
    large_margin_args="$mini_large_margin_args $large_margin_args"
fi
if [ "$precision" != fp32 ]; then
    [ -n "$teacher_model" ] || teacher_args+=" --precision $precision"
    student_args+=" --precision $precision"
    large_margin_args+=" --precision $precision"
fi
case " $teacher_args $student_args $large_margin_args " in
    *" --includes "* | *" --system "*) die "--includes and --system belong into a YAML file of its own, which --student, --large_margin or --teacher names." ;;
esac
split_teacher=() split_student=() split_large_margin=() split_manifest=()
if $teacher_as_it_is; then
    split_student=(${source_args[@]+"${source_args[@]}"})
    split_large_margin=(${source_args[@]+"${source_args[@]}"})
elif $teacher_of_model && [ -z "$teacher_model" ]; then
    split_teacher=(${source_args[@]+"${source_args[@]}"})
fi
while IFS= read -r -d '' word; do split_teacher+=("$word"); done < <(words "$teacher_args")
while IFS= read -r -d '' word; do split_student+=("$word"); done < <(words "$student_args")
while IFS= read -r -d '' word; do split_large_margin+=("$word"); done < <(words "$large_margin_args")
while IFS= read -r -d '' word; do split_manifest+=("$word"); done < <(words "$manifest_args")

# Folders
own_teacher=$exp_root/$name/$teacher_system/seed_$seed
[ -z "$teacher_model" ] || own_teacher=$exp_root/$name/$teacher_system/imported
[ -n "$teacher_exp" ] || teacher_exp=$own_teacher
[ -n "$student_exp" ] || student_exp=$exp_root/$name/$student_system/seed_$seed
first_exp=$student_exp # of the student's first training
if [ -n "$large_margin" ]; then
    student_exp=$exp_root/$name/$large_margin_system/seed_$seed
    [ "$first_exp" != "$student_exp" ] ||
        die "--large_margin $large_margin would be trained in $student_exp, where the student is: name a YAML of another 'system'."
fi
make_folder() { # FOLDER OPTION
    local said
    said=$(LC_ALL=C mkdir -p -- "$1" 2>&1) || die "$1 cannot be made (${said##*: }): name another place with --$2."
    [ -w "$1" ] || die "$1 is not to be written into: name another place with --$2."
}
make_folder "$exp_root/$name/log" exp_root
[ "$stage" -gt 1 ] || make_folder "$data_root" data_root

# FILE STAGE: stops unless the stage that makes the file has been run.
needs() { [ -e "$1" ] || die "stage $2 has not been run: $1 is missing."; }

run_stage() { # NUMBER WHAT
    local log=$exp_root/$name/log/stage_$1.log begun=$SECONDS status
    [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ] || return 0
    case $log in /*) ;; *) log=$PWD/$log ;; esac
    echo "Stage $1: $2" | tee -a "$log"
    set +e
    (set -e; "stage_$1") 2>&1 | tee -a "$log"
    status=${PIPESTATUS[0]}
    set -e
    [ "$status" -eq 0 ] || die "stage $1 ($2) failed; its log is $log."
    echo "Stage $1: done in $((SECONDS - begun)) s" | tee -a "$log"
}

stage_0() {
    local options=("$kind" --out "$corpus_dir" --jobs "$jobs")
    [ -z "$data" ] || options+=(--data "$data")
    [ -z "$unlabelled" ] || options+=(--unlabelled "$unlabelled")
    if [ -n "$trials_root" ] && takes trials_root; then options+=(--trials_root "$trials_root"); fi
    if [ ${#lists[@]} -gt 0 ] && takes trials; then options+=(--trials "${lists[@]}"); fi
    "$python" local/prepare_corpus.py "${options[@]}" ${corpus_args[@]+"${corpus_args[@]}"}
}
run_stage 0 "the corpus $name"

stage_1() {
    local options=(--corpus_dir "$corpus_dir")
    [ -e "$corpus_dir/unlabelled" ] || needs "$corpus_dir/dev" 0
    [ ! -e "$corpus_dir/dev" ] || options+=(--train "$corpus_dir/dev")
    [ ! -e "$corpus_dir/unlabelled" ] || options+=(--unlabelled "$corpus_dir/unlabelled")
    options+=(--jobs "$jobs")
    [ ${#lists[@]} -gt 0 ] || lists=("$corpus_dir"/trials/*) # those of stage 0, if there are any
    [ ! -e "${lists[0]}" ] || options+=(--trials "${lists[@]}" --trials_root "$corpus_dir/test")
    [ -z "$enrol" ] || options+=(--enrol "$enrol")
    [ -z "$exclude_speakers" ] || options+=(--exclude_speakers "$exclude_speakers")
    [ -z "$speaker_groups" ] || options+=(--speaker_groups "$speaker_groups")
    ! $allow_overlap || options+=(--allow_overlap)
    "$python" local/prepare_manifests.py hparams/manifests.yaml "${options[@]}" \
        ${split_manifest[@]+"${split_manifest[@]}"}
}
run_stage 1 "manifests and trial lists of $name"

stage_2() {
    if $teacher_as_it_is && [ -z "$teacher_name" ]; then
        echo "Stage 2 trains nothing: $student has no teacher."
    elif $teacher_as_it_is; then
        echo "Stage 2 trains nothing: the teacher is $teacher_name, which is taken as it is."
    elif [ "$teacher_exp" != "$own_teacher" ]; then
        echo "The teacher of $teacher_exp is used."
    elif [ -n "$teacher_model" ]; then
        "$python" local/import_teacher.py "$teacher_model" --out "$teacher_exp" \
            ${split_teacher[@]+"${split_teacher[@]}"}
    else
        needs "$manifests/manifest.json" 1
        "${launch[@]}" train_teacher.py "$teacher" --corpus_dir "$corpus_dir" --seed "$seed" \
            --output_folder "$teacher_exp" ${split_teacher[@]+"${split_teacher[@]}"}
    fi
}
run_stage 2 "the teacher, ${teacher_name:-which is none}"

stage_3() {
    local options=(--corpus_dir "$corpus_dir" --seed "$seed") of_size=() of_labels=()
    needs "$manifests/manifest.json" 1
    if ! $teacher_as_it_is; then
        needs "$teacher_exp/save/embedding_model.safetensors" 2
        facts=$("$python" -m speechbrain_ext.systems.describe --student_options "$teacher_exp")
        read -r -a of_size <<< "$facts" # plain words, or none
        options+=(--teacher_folder "$teacher_exp" ${of_size[@]+"${of_size[@]}"})
    fi
    local first=("$student" "${options[@]}" --output_folder "$first_exp")
    if [ -e "$corpus_dir/unlabelled" ] && [ ! -e "$corpus_dir/dev" ]; then
        read -r -a of_labels <<< "$label_free" # nothing has a label to be classified by
        first+=(${of_labels[@]+"${of_labels[@]}"})
    fi
    first+=(${split_student[@]+"${split_student[@]}"})
    local second=("$large_margin" "${options[@]}" --start_from "$first_exp" --output_folder "$student_exp")
    second+=(${split_large_margin[@]+"${split_large_margin[@]}"})
    [ -z "$large_margin" ] || "$python" -m speechbrain_ext.training.second "${first[@]}" -- "${second[@]}"
    "${launch[@]}" train_distill.py "${first[@]}"
    [ -z "$large_margin" ] || "${launch[@]}" train_distill.py "${second[@]}"
}
run_stage 3 "the student, $student${large_margin:+ and $large_margin}"

stage_4() { # a teacher that is taken as it is has no embeddings of speakers
    local systems=("$student_exp") fuse=() system cohort=(--cohort) norm=(--score_norm "$score_norm") measures
    [ "$score_norm" != none ] || norm=()
    case "$score_norm $calibration" in *asnorm* | *snorm* | *cohort*) ;; *) cohort=() ;; esac
    read -ra measures <<< "$calibration"
    if ! $teacher_as_it_is; then
        needs "$teacher_exp/save/embedding_model.safetensors" 2
        systems=("$teacher_exp" "$student_exp") fuse=(--fuse "$teacher_exp")
    fi
    needs "$student_exp/save/embedding_model.safetensors" 3
    if ! $teacher_as_it_is; then
        facts=$("$python" -m speechbrain_ext.systems.describe --enrols "$teacher_exp" "$student_exp")
        ! $facts || fuse+=(--enrol_with "$teacher_exp") # both lie in one space
    fi
    for system in "${systems[@]}"; do
        "${launch[@]}" extract.py "$system" --manifests "$manifests" ${cohort[@]+"${cohort[@]}"}
    done
    $teacher_as_it_is || "$python" score.py "$teacher_exp" --manifests "$manifests" ${norm[@]+"${norm[@]}"} \
        --calibration "${measures[@]}"
    "$python" score.py "$student_exp" --manifests "$manifests" ${fuse[@]+"${fuse[@]}"} \
        ${norm[@]+"${norm[@]}"} --calibration "${measures[@]}"
}
if $teacher_as_it_is; then scored="the student"; else scored="teacher, student and their fusion"; fi
run_stage 4 "embeddings and scores of $scored"

stage_5() {
    local systems=("$teacher_exp" "$student_exp") leaving=("$teacher_exp" "$student_exp") files
    read -ra files <<< "$formats"
    ! $teacher_as_it_is || systems=(--with_teacher "$student_exp") leaving=("$student_exp")
    needs "$student_exp/save/embedding_model.safetensors" 3
    "$python" export.py "$student_exp" ${files[@]+--formats "${files[@]}"}
    "$python" benchmark.py --out "$student_exp/results/speed.json" "${systems[@]}"
    if "$python" -c "import onnx, onnxruntime" 2>/dev/null; then # else export.py has said so
        "$python" benchmark.py --out "$student_exp/results/engines.json" "${leaving[@]}" \
            --device cpu --rounds 10 --engines eager onnx int8 --threads 1 --batch 1 --seconds_of_speech 3
    fi
}
run_stage 5 "the student's model folder, and its speed beside the teacher's"

stage_6() {
    local options=(--manifests "$manifests")
    $teacher_as_it_is || options+=(--teacher "$teacher_exp")
    needs "$student_exp/results" 4
    "$python" report.py "$student_exp" "${options[@]}"
}
run_stage 6 "the report"
