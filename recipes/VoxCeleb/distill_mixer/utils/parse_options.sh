# shellcheck shell=bash
# Source this, before any cd, with "$@" after the block of defaults: every `name=value  # explanation` above the line
# "# End of options." is an option --name (or --na-me, or --name=value). A switch, whose default is true or
# false, may stand without a value. --help prints the head of the script and the explanations.
# Afterwards $given holds the names that the command line set, with a space around each.

_script=${BASH_SOURCE[1]}

_option_lines() { sed -n '/^# End of options\.$/q; /^[a-z_0-9]*=.*  # /p' "$_script"; }

_print_help() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$_script"
    echo
    echo "Options:"
    _option_lines | sed -E 's/^([a-z_0-9]+)=("([^"]*)"|([^ ]*))  # (.*)$/--\1\t\5\t\3\4/' |
        while IFS=$'\t' read -r option explanation default; do
            printf '  %-21s %s%s\n' "$option" "$explanation" "${default:+ [$default]}"
        done
}

_refuse() {
    echo "error: $*; ${0##*/} --help explains the options." >&2
    exit 2
}

_parse_options() {
    local names name argument value switch
    names=" $(_option_lines | sed 's/=.*//' | tr '\n' ' ')"
    given=" "
    while [ $# -gt 0 ]; do
        argument=$1
        shift
        case $argument in
            -h | --help) _print_help; exit 0 ;;
            --?*) ;;
            *) _refuse "'$argument' is not an option: write --name value" ;;
        esac
        name=${argument%%=*}
        name=${name#--}
        name=${name//-/_}
        case $names in
            *" $name "*) ;;
            *) _refuse "there is no option --${argument#--}" ;;
        esac
        switch=false
        case ${!name} in true | false) switch=true ;; esac
        if [[ $argument == *=* ]]; then
            value=${argument#*=}
        elif $switch && [[ $# -eq 0 || $1 == --* ]]; then
            value=true
        else
            [ $# -gt 0 ] || _refuse "--$name wants a value"
            value=$1
            shift
        fi
        if $switch && [ "$value" != true ] && [ "$value" != false ]; then
            _refuse "--$name is true or false, not '$value'"
        fi
        printf -v "$name" '%s' "$value"
        given+="$name "
    done
}

_parse_options "$@"
