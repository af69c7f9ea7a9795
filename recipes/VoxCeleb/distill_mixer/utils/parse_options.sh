# shellcheck shell=bash
# Source this, before any cd, with "$@" after the block of defaults: every `name=value  # explanation` above the line
# "# End of options." is an option --name (or --na-me, or --name=value). A switch, whose default is true or
# false, may stand without a value. --help prints the head of the script and the explanations.
# Options that are none of these, and their values, are put into the array $others, for the script to pass on or refuse.
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
    # Names of their own: an option may be called name or value.
    local _names _name _argument _value _switch
    _names=" $(_option_lines | sed 's/=.*//' | tr '\n' ' ')"
    given=" " others=()
    while [ $# -gt 0 ]; do
        _argument=$1
        shift
        case $_argument in
            -h | --help) _print_help; exit 0 ;;
            --?*) ;;
            *) _refuse "'$_argument' is not an option: write --name value" ;;
        esac
        _name=${_argument%%=*}
        _name=${_name#--}
        _name=${_name//-/_}
        case $_names in
            *" $_name "*) ;;
            *) # not this script's
                others+=("--$_name")
                if [[ $_argument == *=* ]]; then
                    others+=("${_argument#*=}")
                else
                    while [[ $# -gt 0 && $1 != --* ]]; do others+=("$1") && shift; done
                fi
                continue
                ;;
        esac
        _switch=false
        case ${!_name} in true | false) _switch=true ;; esac
        if [[ $_argument == *=* ]]; then
            _value=${_argument#*=}
        elif $_switch && [[ $# -eq 0 || $1 == --* ]]; then
            _value=true
        else
            [ $# -gt 0 ] || _refuse "--$_name wants a value"
            _value=$1
            shift
        fi
        if $_switch && [ "$_value" != true ] && [ "$_value" != false ]; then
            _refuse "--$_name is true or false, not '$_value'"
        fi
        printf -v "$_name" '%s' "$_value"
        given+="$_name "
    done
}

_parse_options "$@"
