"""Name the route of a call without what it holds: `clients/17/accounts` is `clients/{id}/accounts`.

Logs must not show names, national or external ids, so only words that Fineract's API itself has are kept.
"""

import re

INVALID = "{invalid}"

_NUMBER = re.compile(r"[0-9]+")
_MOST_SEGMENTS = 12

_WORDS = frozenset(
    """
    accountingrules accountnumberformats accounts accounttransfers active-transfer addCreditReport addresses
    adhocquery advance advanced-payment-allocation-rules allocate approved-amount at-date attachment attributes
    audit audits authentication available-disbursement-amount available-steps availableExports batches
    beneficiaries buckets businessdate buydown-fees caches calculate-fd-interest calendars campaign
    capitalized-incomes cashiers cashiersjournal catch-up centers charges chartslabs client clients cob codes
    codevalues collateral-management collaterals collectionsheet command component config configuration
    configurations configure CreditBureauConfiguration creditBureauIntegration creditReport currencies
    datatables deferredincome deleteCreditReport delinquency delinquency-actions delinquencytags deregister
    device disburse disbursements dividend documents downloadOutputTemplate downloadtemplate echo
    editDisbursements email entityDatatableChecks entitytoentitymapping entries external-asset-owners
    external-id externalevents externalservice failedEmail familymembers fast-forward-cob-date-of-loan
    fieldconfiguration financialactivityaccounts fixeddepositaccounts fixeddepositproducts floatingrates funds
    getOutputTemplateLocation glaccounts glclosures glimAccount glimaccounts group grouplevels groups gsim
    gsimaccounts gsimcommands guarantors health holidays hooks identifiers images imports inline instance-mode
    interest-pauses interestratecharts internal interoperation invalidate is-catch-up-running jobs
    journal-entries journalentries journals kyc likelihood loan loan-collateral-management loan-product
    loan-reprocess loanProduct loanproducts loanreassignment loanrepayment loans locked lookuptables
    makercheckers mappings meetings messageByStatus mixmapping mixreport mixtaxonomy model name names notes
    notifications obligeedetails offices officetransactions oldest-cob-closed onholdtransactions openingbalance
    organisationCreditBureau owners parties partitions passwordpreferences paymenttypes pendingEmail permissions
    place-lock pockets postdatedchecks povertyLine preview productmix products progressive provisioning
    provisioningcategory provisioningcriteria provisioningentries pwd query quotes ranges rates reage-preview
    reamortization-preview recurringdepositaccounts recurringdepositproducts refundByTransfer register
    registration repayments reportmailingjobrunhistory reportmailingjobs reports requests rescheduleloans roles
    runaccruals runhistory runreports saveCreditReport savingsaccounts savingsproducts schedule scheduler
    scorecards search searchtemplate self sentEmail settle share shareaccounts shareproduct short-name sms
    smscampaigns staff standinginstructionrunhistory standinginstructions status steps summaryandtransactions
    survey surveys taxes tellers template templateRefundByTransfer templates tpt transaction transactions
    transferproposaldate transfers twofactor unassign_staff uploadtemplate user userdetails users validate value
    workingdays
    """.split()  # noqa: SIM905 - two hundred quotation marks less
)


def of(path: str, *, version: str = "v1") -> str:
    """The template of `Target.path`; a resource of v2 keeps its prefix."""
    segments = path.split("/")
    template = "/".join(_name(segment) for segment in segments[:_MOST_SEGMENTS])
    tail = "/…" if len(segments) > _MOST_SEGMENTS else ""
    return f"{'' if version == 'v1' else version + '/'}{template}{tail}"


def _name(segment: str) -> str:
    if segment in _WORDS:
        return segment
    return "{id}" if _NUMBER.fullmatch(segment) else "{value}"
