import { serveListing } from '../../core/listing/writers.ts'
import { writePackages } from './write-packages.ts'

/* What runs in the threads that write the package lists of a large repository. */

serveListing(writePackages)
